package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/namespaces"
)

// Task is a container's process tree, held by a shim. Its shim may die and
// another one adopt it.
type Task struct {
	// Bundle is the container's folder.
	Bundle string
	key    key

	mu    sync.Mutex
	held  *shim
	moved chan struct{} // closed when it is held by another shim, or is gone
	ended bool
	pid   uint32
	pidfd *os.File // of the first process: knows its exit code when all shims are dead
}

func newTask(k key, bundle string, s *shim) *Task {
	return &Task{key: k, Bundle: bundle, held: s, moved: make(chan struct{})}
}

// ID is the container's.
func (t *Task) ID() string { return t.key.id }

func (t *Task) shim() *shim {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}

// watchPid keeps hold of the first process. One that has ended already is the
// shim's to tell of.
func (t *Task) watchPid(pid uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pid = pid
	if fd, err := unix.PidfdOpen(int(pid), 0); err == nil {
		t.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
}

// move hands the task to another shim; nil says that it is gone.
func (t *Task) move(s *shim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s == nil {
		t.ended = true
	} else {
		t.held = s
	}
	close(t.moved)
	t.moved = make(chan struct{})
}

func (t *Task) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pidfd != nil {
		t.pidfd.Close()
		t.pidfd = nil
	}
}

// repeatable are the calls that may be made again when a shim dies during one.
var repeatable = map[string]bool{"Wait": true, "State": true, "Pids": true, "Stats": true, "Connect": true, "ResizePty": true}

// Call makes one call to the task's shim; errors have errdefs' classes. If the
// shim dies meanwhile, calls that change nothing are made again to the one that
// adopts the task.
func (t *Task) Call(ctx context.Context, method string, req, resp any) error {
	ctx = namespaces.With(ctx, t.key.namespace)
	for {
		t.mu.Lock()
		s, moved, ended := t.held, t.moved, t.ended
		t.mu.Unlock()
		if ended {
			return fmt.Errorf("task %q: %w", t.key.id, errdefs.ErrNotFound)
		}
		err := s.call(ctx, method, req, resp)
		if !errors.Is(err, errGone) {
			return err
		}
		if !repeatable[method] {
			return fmt.Errorf("task %q: %w", t.key.id, err)
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reapWait bounds the wait for init to collect a process whose shim has died.
const reapWait = 2 * time.Second

// exitCode asks the kernel how the first process ended, if it has (pidfd ioctl,
// kernel 6.15).
func (t *Task) exitCode() (code uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pidfd == nil {
		return 0, false
	}
	fd := int(t.pidfd.Fd())
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil || n == 0 {
		return 0, false // it lives
	}
	for range reapWait / (10 * time.Millisecond) {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := unix.IoctlPidfdInfo(fd, &info)
		if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			ws := unix.WaitStatus(uint32(info.Exit_code))
			if ws.Signaled() {
				return 128 + uint32(ws.Signal()), true
			}
			return uint32(ws.ExitStatus()), true
		}
		if err != nil && err != unix.ESRCH {
			return 0, false // the kernel does not know the request
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, false
}
