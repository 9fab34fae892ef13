// Package namespace runs functions in network namespaces.
//
// The kernel keeps a thread's namespace, Go moves goroutines between threads: so a
// function that runs elsewhere runs on a thread that is locked until it is back. If
// the way back fails, the thread is never unlocked and ends with its goroutine.
// Sockets stay in the namespace they were made in, so most callers need a namespace
// only as long as it takes to make one.
//
// A [Namespace] holds the namespace open. It is safe for concurrent use.
package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that is held open.
type Namespace struct{ file *os.File }

// Open opens the namespace at a path; "" is the calling process's own. It returns
// ErrNotFound if there is nothing and ErrInvalidArgument if there is something else.
func Open(path string) (*Namespace, error) {
	if path == "" {
		path = "/proc/self/ns/net"
	}
	// Without O_NONBLOCK a FIFO that somebody put there would hold us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network namespace %q: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		// The path of a namespace that was unmounted is an empty file.
		return nil, fmt.Errorf("network namespace %q: not one: %w", path, errdefs.ErrInvalidArgument)
	}
	return &Namespace{f}, nil
}

// FD is the namespace's descriptor, valid until Close.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// Close lets the namespace go.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs f in the namespace. f must not start goroutines that expect to be there.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer func() {
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// Inode tells namespaces apart.
func (n *Namespace) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n.FD(), &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
}

// Sysctl writes a setting of the thread's namespace: call it within Do. The name is
// a path below /proc/sys/net. A setting that the kernel hasn't got is no error if
// optional.
func Sysctl(name, value string, optional bool) error {
	path := "/proc/sys/net/" + name
	if old, err := os.ReadFile(path); err == nil && string(old) == value+"\n" {
		return nil
	}
	err := os.WriteFile(path, []byte(value), 0)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sysctl net/%s=%s: %w", name, value, err)
	}
	return nil
}
