package runtime

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ExitStatus says how a process ended.
type ExitStatus struct {
	// Code is the exit code; 128 plus the signal if a signal ended the process;
	// 255 if nobody knows (Known is false then).
	Code int
	// Signal is the signal that ended it, or 0.
	Signal int
	// At is when the end was noticed.
	At time.Time
	// Known is false if the process was not our child and the kernel keeps no
	// exit codes for others (before 6.15).
	Known bool
}

// task is a watched process.
type task struct {
	pid    int
	leave  bool // its parent-to-be collects it
	pidfd  *os.File
	done   chan struct{} // closed when status is valid
	status ExitStatus
}

// watcher learns of the ends of many processes with one goroutine.
type watcher struct {
	leave  bool // don't collect
	mu     sync.Mutex
	epoll  int
	wake   int // eventfd that ends the goroutine
	open   bool
	tasks  map[int32]*task
	events map[int32]func()
}

// add watches a process. The caller vouches that pid is the process meant.
func (w *watcher) add(pid int) (*task, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	t := &task{pid: pid, leave: w.leave, pidfd: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.start(); err != nil {
		t.pidfd.Close()
		return nil, err
	}
	w.tasks[int32(fd)] = t
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		delete(w.tasks, int32(fd))
		t.pidfd.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	return t, nil
}

// event calls f whenever something new happens to fd that poll(2) calls ready,
// until dropEvent.
func (w *watcher) event(fd int, ready int16, f func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.start(); err != nil {
		return err
	}
	w.events[int32(fd)] = f
	// By edges: the file of a group that is gone stays ready for ever.
	ev := unix.EpollEvent{Events: uint32(ready) | unix.EPOLLET, Fd: int32(fd)}
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &ev)
}

func (w *watcher) dropEvent(fd int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	}
	delete(w.events, int32(fd))
}

// start begins the goroutine with the first thing to watch.
func (w *watcher) start() error {
	if w.open {
		return nil
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(ep)
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		unix.Close(ep)
		unix.Close(wake)
		return err
	}
	w.epoll, w.wake, w.open = ep, wake, true
	w.tasks, w.events = map[int32]*task{}, map[int32]func(){}
	go w.loop(ep, wake)
	return nil
}

func (w *watcher) loop(ep, wake int) {
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(ep, events[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if int(e.Fd) == wake {
				unix.Close(ep)
				unix.Close(wake)
				return
			}
			w.handle(e.Fd)
		}
	}
}

func (w *watcher) handle(fd int32) {
	w.mu.Lock()
	t, f := w.tasks[fd], w.events[fd]
	delete(w.tasks, fd)
	if t != nil {
		unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(fd), nil)
	}
	w.mu.Unlock()
	if t != nil {
		t.finish()
	}
	if f != nil {
		f()
	}
}

// forget stops watching a process that has not ended.
func (w *watcher) forget(t *task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fd := int32(t.pidfd.Fd())
	if w.tasks[fd] == t {
		delete(w.tasks, fd)
		unix.EpollCtl(w.epoll, unix.EPOLL_CTL_DEL, int(fd), nil)
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		w.open = false
		unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// finish collects the status of an ended process.
func (t *task) finish() {
	t.status = exitStatus(int(t.pidfd.Fd()), t.leave)
	t.status.At = time.Now()
	close(t.done)
}

// siginfo is the part of siginfo_t that waitid fills.
type siginfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// exitStatus asks for the status of an ended process: our child's by waitid,
// anybody else's by what the kernel remembers behind its pidfd.
func exitStatus(pidfd int, leave bool) ExitStatus {
	options := unix.WEXITED
	if leave {
		options |= unix.WNOWAIT
	}
	var info siginfo
	for {
		err := waitid(pidfd, options, &info)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return foreignStatus(pidfd)
		}
		break
	}
	if info.code == 1 { // CLD_EXITED
		return ExitStatus{Code: int(info.status), Known: true}
	}
	return ExitStatus{Code: 128 + int(info.status), Signal: int(info.status), Known: true}
}

// statusTries bounds the wait for the real parent (init) to reap: 2 seconds.
const statusTries = 200

func foreignStatus(pidfd int) ExitStatus {
	for range statusTries {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := unix.IoctlPidfdInfo(pidfd, &info)
		if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			ws := unix.WaitStatus(uint32(info.Exit_code))
			if ws.Signaled() {
				return ExitStatus{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal()), Known: true}
			}
			return ExitStatus{Code: ws.ExitStatus(), Known: true}
		}
		if err != nil && err != unix.ESRCH {
			break // a kernel that does not know the request
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ExitStatus{Code: 255}
}
