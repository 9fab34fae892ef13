package server

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// exit is how a process ended.
type exit struct {
	code uint32 // as a shell says it: 128 + the signal's number for a killed one
	at   time.Time
}

// reaper collects every child of the shim, which is the subreaper of its
// containers: their inits are children of a runtime program that has gone. No
// other part of the process may wait for children.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan exit
	early   map[int]exit // ended before anybody asked
}

// earlyKept bounds how many unasked-for exits are remembered.
const earlyKept = 256

func newReaper() (*reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, err
	}
	r := &reaper{waiting: map[int]chan exit{}, early: map[int]exit{}}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		for range signals {
			r.reap()
		}
	}()
	return r, nil
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		e := exit{code: uint32(ws.ExitStatus()), at: time.Now()}
		if ws.Signaled() {
			e.code = 128 + uint32(ws.Signal())
		}
		r.deliver(pid, e)
	}
}

func (r *reaper) deliver(pid int, e exit) {
	if ch, ok := r.waiting[pid]; ok {
		delete(r.waiting, pid)
		ch <- e
		return
	}
	if len(r.early) >= earlyKept {
		r.early = map[int]exit{}
	}
	r.early[pid] = e
}

// start runs fn, which starts a child and returns its pid, so that its end can't
// be missed; the channel gets it once.
func (r *reaper) start(fn func() (int, error)) (int, <-chan exit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fn()
	if err != nil {
		return 0, nil, err
	}
	ch := make(chan exit, 1)
	r.waiting[pid] = ch
	return pid, ch, nil
}

// adopt waits for a grandchild that was started after since.
func (r *reaper) adopt(pid int, since time.Time) <-chan exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := make(chan exit, 1)
	if e, ok := r.early[pid]; ok && e.at.After(since) {
		delete(r.early, pid)
		ch <- e
		return ch
	}
	r.waiting[pid] = ch
	return ch
}
