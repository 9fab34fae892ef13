package runtime

import (
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// plan collects the operations of one new process and the files it needs.
type plan struct {
	t        *table.Table
	files    []*os.File // closed when the child has its copies
	fds      []int      // the same for bare descriptors
	warnings []string
	soft     []softStep
	paths    map[string]uint64 // strings in the table
	size     *specs.Box        // of the terminal, or nil
	terminal any               // the process's end of its terminal, or nil
	lookup   lookup
	loaded   uint64    // address of a word set by the parent after a seccomp listener is taken
	listener table.Ref // the operation that yields the listener, or 0
	found    uint64    // address of the pointer to the path of the program
	execute  table.Ref // the last operation
}

// softStep is an operation whose error is only worth a warning.
type softStep struct {
	ref  table.Ref
	what string
}

const (
	atCWD      = ^uint64(99) // AT_FDCWD
	atEmpty    = unix.AT_EMPTY_PATH
	procMagic  = unix.PROC_SUPER_MAGIC
	moveByFD   = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	inRoot     = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	inRootHard = inRoot | unix.RESOLVE_NO_SYMLINKS
)

func newPlan(extra, ownPIDNS int) (*plan, error) {
	t, err := table.New(extra, ownPIDNS)
	if err != nil {
		return nil, err
	}
	return &plan{t: t, paths: map[string]uint64{}}, nil
}

// close closes the parent's copies of all files.
func (p *plan) close() {
	for _, f := range p.files {
		f.Close()
	}
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	p.files, p.fds = nil, nil
}

// own remembers a descriptor that is the plan's to close.
func (p *plan) own(fd int) int {
	p.fds = append(p.fds, fd)
	return fd
}

func (p *plan) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// str is a string in the table; equal strings are stored once.
func (p *plan) str(s string) uint64 {
	at, ok := p.paths[s]
	if !ok {
		at = p.t.String(s)
		p.paths[s] = at
	}
	return at
}

// tolerant adds an operation that may fail with one of errs, or any way.
func (p *plan) tolerant(r table.Ref, errs ...syscall.Errno) table.Ref {
	return p.t.Tolerate(r, errs...)
}

// softly adds an operation whose failure becomes a warning.
func (p *plan) softly(r table.Ref, what string) {
	p.t.Tolerate(r)
	p.soft = append(p.soft, softStep{r, what})
}

// softWarnings are the failures of soft steps, to be read after the walk.
func (p *plan) softWarnings() []string {
	var out []string
	for _, s := range p.soft {
		if v := p.t.Value(s.ref); v < 0 {
			out = append(out, fmt.Sprintf("%s: %v", s.what, syscall.Errno(-v)))
		}
	}
	return out
}

// put copies a struct into the table.
func put[T any](p *plan, v T) uint64 {
	return p.t.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
}

// openIn opens a path below a root directory, never leaving it.
func (p *plan) openIn(name string, root any, file string, flags, resolve uint64) table.Ref {
	how := put(p, unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve})
	return p.t.Add(name, unix.SYS_OPENAT2, root, p.str(clean(file)), how, unix.SizeofOpenHow)
}

// clean makes a path that openat2 takes as relative to the root.
func clean(file string) string {
	return "." + path.Clean("/"+file)
}

// ensure opens a path below root, making it (and its parents) if it is missing:
// a directory, or an empty file. The result is an O_PATH descriptor.
func (p *plan) ensure(name string, root any, file string, dir bool, resolve uint64) table.At {
	t := p.t
	word := uint64(t.Alloc(8))
	try := p.tolerant(p.openIn(name, root, file, unix.O_PATH, resolve), syscall.ENOENT)
	t.Copy(table.Result(try), word)
	have := t.Test(name, uint64(0), 0, 0) // always true: jumps to the end
	t.Else(try)
	var parent any = root
	parts := strings.Split(strings.Trim(path.Clean("/"+file), "/"), "/")
	for i, part := range parts {
		last := i == len(parts)-1
		if !last || dir {
			p.tolerant(t.Add(name, unix.SYS_MKDIRAT, parent, p.str(part), 0o755), syscall.EEXIST)
		} else {
			p.tolerant(t.Add(name, unix.SYS_MKNODAT, parent, p.str(part), unix.S_IFREG|0o644, 0), syscall.EEXIST)
		}
		if !last {
			parent = table.Result(p.openIn(name, root, strings.Join(parts[:i+1], "/"), unix.O_PATH|unix.O_DIRECTORY, resolve))
		}
	}
	again := p.openIn(name, root, file, unix.O_PATH, resolve)
	t.Copy(table.Result(again), word)
	t.Then(have)
	return table.At(word)
}

// attach moves a detached mount onto a directory or file.
func (p *plan) attach(name string, mount, target any) {
	empty := p.str("")
	p.t.Add(name, unix.SYS_MOVE_MOUNT, mount, empty, target, empty, moveByFD)
}

// setattr changes a mount that is known by descriptor.
func (p *plan) setattr(name string, mount any, recursive bool, a unix.MountAttr) table.Ref {
	flags := atEmpty
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return p.t.Add(name, unix.SYS_MOUNT_SETATTR, mount, p.str(""), flags, put(p, a), int(unsafe.Sizeof(a)))
}

// filesystem makes a new mount of a type, detached. Data are "key" or "key=value".
func (p *plan) filesystem(name, fstype, source string, data []string, attrs uint64) table.Result {
	t := p.t
	fs := t.Add(name, unix.SYS_FSOPEN, p.str(fstype), unix.FSOPEN_CLOEXEC)
	if source != "" {
		p.tolerant(t.Add(name, unix.SYS_FSCONFIG, table.Result(fs), unix.FSCONFIG_SET_STRING, p.str("source"), p.str(source), 0), syscall.EINVAL)
	}
	for _, d := range data {
		key, value, ok := strings.Cut(d, "=")
		if ok {
			t.Add(name+": option "+d, unix.SYS_FSCONFIG, table.Result(fs), unix.FSCONFIG_SET_STRING, p.str(key), p.str(value), 0)
		} else {
			t.Add(name+": option "+d, unix.SYS_FSCONFIG, table.Result(fs), unix.FSCONFIG_SET_FLAG, p.str(key), 0, 0)
		}
	}
	t.Add(name, unix.SYS_FSCONFIG, table.Result(fs), unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	mnt := t.Add(name, unix.SYS_FSMOUNT, table.Result(fs), unix.FSMOUNT_CLOEXEC, attrs)
	t.Add(name, unix.SYS_CLOSE, table.Result(fs))
	return table.Result(mnt)
}

// bindOf clones the mount at a descriptor, detached.
func (p *plan) bindOf(name string, fd any, recursive bool) table.Result {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return table.Result(p.t.Add(name, unix.SYS_OPEN_TREE, fd, p.str(""), flags))
}

// writeFile writes a value to a file below a directory that must be on procfs.
func (p *plan) writeProc(name string, dir any, file, value string, soft bool) {
	t := p.t
	how := put(p, unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV})
	open := t.Add(name, unix.SYS_OPENAT2, dir, p.str(file), how, unix.SizeofOpenHow)
	write := t.Add(name, unix.SYS_WRITE, table.Result(open), p.str(value), len(value))
	end := t.Add(name, unix.SYS_CLOSE, table.Result(open))
	if soft {
		p.softly(open, name)
		p.softly(write, name)
		p.tolerant(end)
	}
}

// message tells the parent how far the child is and waits for its word.
func (p *plan) message(step byte, sock int) {
	t := p.t
	name := "talk to the parent"
	t.Add(name, unix.SYS_SENDTO, sock, t.Bytes([]byte{step}), 1, unix.MSG_NOSIGNAL, 0, 0)
	buf := uint64(t.Alloc(8))
	got := t.Add(name, unix.SYS_READ, sock, buf, 1)
	ok := t.Test(name, table.Result(got), ^uint64(0), 1)
	past := t.Test(name, uint64(0), 0, 0)
	t.Else(ok)
	t.Fail("the parent gave up", syscall.ECANCELED)
	t.Then(past)
}

// passFile sends a descriptor to the parent.
func (p *plan) passFile(step byte, sock int, fd any) {
	t := p.t
	control := uint64(t.Alloc(unix.CmsgSpace(4)))
	*t.Word(control) = uint64(unix.CmsgLen(4))
	*t.Word(control + 8) = uint64(unix.SOL_SOCKET) | uint64(unix.SCM_RIGHTS)<<32
	t.Copy(fd, control+16)
	iov := put(p, [2]uint64{t.Bytes([]byte{step}), 1})
	msg := put(p, [7]uint64{0, 0, iov, 1, control, uint64(unix.CmsgSpace(4)), 0})
	t.Add("hand the terminal over", unix.SYS_SENDMSG, sock, msg, unix.MSG_NOSIGNAL)
}
