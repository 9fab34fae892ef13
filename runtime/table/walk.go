package table

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"
)

// ErrThreadLost says that the calling thread could not be put back into its own
// pid namespace; Run has arranged for the thread to end.
var ErrThreadLost = errors.New("thread could not return to its pid namespace")

// walk is written in assembly.
//
//go:noescape
func walk(first *op, hdr *header)

// The scheduler is told that the thread blocks, as it is for every system call;
// gVisor links to the same two functions, so Go keeps them.
//
//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// walkBlocking walks without holding a P. Nothing between the two calls may
// grow the stack, hence nosplit.
//
//go:nosplit
//go:norace
func walkBlocking(first *op, hdr *header) {
	entersyscallblock()
	walk(first, hdr)
	exitsyscall()
}

// Clone says how the new process is made.
type Clone struct {
	// Flags are clone3 flags; CLONE_CLEAR_SIGHAND is added.
	Flags uint64
	// Cgroup is an open cgroup v2 directory to be born in, or -1.
	Cgroup int
	// PIDNamespace is an open pid namespace to be born in, or -1. The calling
	// thread joins it around the clone and comes back.
	PIDNamespace int
	// NoReturn says that the thread may not come back, as in a user namespace that the
	// own pid namespace doesn't belong to: a thread of its own is used up then.
	NoReturn bool
	// Share lets the child use our memory until it executes a program, with the
	// calling thread asleep until then (CLONE_VM|CLONE_VFORK).
	Share bool
}

// cloneArgs is struct clone_args of linux/sched.h.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

// Run clones a process which walks the table from the operation first on. It
// returns when the clone failed, and else at once if memory is not shared, or
// when the child has exec'ed or ended if it is. Err then tells the child's error.
func (t *Table) Run(c Clone, first Ref) error {
	if c.PIDNamespace < 0 || !c.NoReturn {
		return t.run(c, first)
	}
	done := make(chan error, 1)
	go func() { done <- t.run(c, first) }()
	return <-done
}

func (t *Table) run(c Clone, first Ref) error {
	launch := t.launcher(c, first)
	runtime.LockOSThread()
	walkBlocking(t.op(launch.first), t.hdr)
	if launch.back == 0 || int64(t.op(launch.back).res) >= 0 {
		runtime.UnlockOSThread()
	} else if !c.NoReturn {
		// The goroutine ends locked in nobody's hands: keep the lock, so that
		// the runtime drops the thread with its goroutine.
		return ErrThreadLost
	}
	runtime.KeepAlive(t)
	if launch.join != 0 {
		if r := int64(t.op(launch.join).res); r < 0 {
			return syscall.Errno(-r)
		}
	}
	if r := int64(t.op(launch.fork).res); r < 0 {
		return syscall.Errno(-r)
	}
	return nil
}

// launch is the caller's own short list around the clone.
type launch struct{ first, join, fork, back Ref }

func (t *Table) launcher(c Clone, first Ref) launch {
	old := t.Alloc(8)
	all := t.Bytes([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	flags := c.Flags | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID
	if c.Share {
		flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	args := cloneArgs{flags: flags, exitSignal: uint64(unix.SIGCHLD)}
	args.parentTID = uint64(uintptr(unsafe.Pointer(&t.hdr.pid)))
	if c.Cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(c.Cgroup)
	}
	at := t.Alloc(int(unsafe.Sizeof(args)))
	*(*cloneArgs)(unsafe.Pointer(t.Word(uint64(at)))) = args

	var l launch
	l.first = t.Add("block signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, all, old, 8)
	if c.PIDNamespace >= 0 {
		l.join = t.Add("join pid namespace", unix.SYS_SETNS, uint64(c.PIDNamespace), unix.CLONE_NEWPID)
		t.Tolerate(l.join)
	}
	l.fork = t.Add("clone", opFork, uint64(at), uint64(unsafe.Sizeof(args)))
	if l.join != 0 {
		l.back = t.Add("leave pid namespace", unix.SYS_SETNS, uint64(t.ownPIDNS), unix.CLONE_NEWPID)
		t.Tolerate(l.back)
	}
	restore := t.Add("restore signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, old, 0, 8)
	end := t.Add("return", opReturn)
	t.setNext(l.fork, first)
	if l.join != 0 {
		t.setAlt(l.join, restore)
		t.setAlt(l.fork, l.back)
	} else {
		t.setAlt(l.fork, restore)
	}
	t.setNext(restore, end)
	return l
}
