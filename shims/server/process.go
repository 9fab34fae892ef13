package server

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
)

// process is a container's first process or an exec in it.
type process struct {
	id   string // empty for the first
	ends ends
	spec []byte // of an exec: its process section as JSON

	// order is held while a process is started, so that its end is told after
	// its start.
	order sync.Mutex

	mu      sync.Mutex
	status  task.Status
	run     running // nil until made
	ended   exit
	done    chan struct{} // closed when it has ended
	streams *streams
	// What a client asked for before there were streams.
	inClosed      bool
	width, height uint32
}

func newProcess(id string, e ends) *process {
	return &process{id: id, ends: e, status: task.Status_CREATED, done: make(chan struct{})}
}

// made joins a process with its streams. On error both are the caller's to end.
func (p *process) made(run running, s *streams) error {
	s.handedOver()
	if p.ends.terminal {
		if err := s.attach(run.console(), p.ends); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run, p.streams = run, s
	if p.inClosed {
		s.closeIn()
	}
	if p.ends.terminal && p.width > 0 {
		return s.resize(p.width, p.height)
	}
	return nil
}

// closeIn ends standard input, at once or as soon as there is one.
func (p *process) closeIn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inClosed = true
	if p.streams != nil {
		p.streams.closeIn()
	}
}

// resize sets a terminal's size, at once or as soon as there is one. An ended
// process has none to resize any more.
func (p *process) resize(width, height uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ends.terminal {
		return fmt.Errorf("the process has no terminal: %w", errdefs.ErrFailedPrecondition)
	}
	p.width, p.height = width, height
	if p.streams == nil || p.status == task.Status_STOPPED {
		return nil
	}
	return p.streams.resize(width, height)
}

// end records how the process ended, after its output has been passed on.
func (p *process) end(e exit) {
	p.mu.Lock()
	s := p.streams
	p.mu.Unlock()
	if s != nil {
		s.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.status = e, task.Status_STOPPED
	close(p.done)
}

func (p *process) set(s task.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != task.Status_STOPPED {
		p.status = s
	}
}

// get returns status, process id (0 before it was made) and end.
func (p *process) get() (task.Status, uint32, exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return p.status, 0, p.ended
	}
	return p.status, uint32(p.run.pid()), p.ended
}

// wait returns when the process has ended.
func (p *process) wait(ctx context.Context) (exit, error) {
	select {
	case <-p.done:
		_, _, e := p.get()
		return e, nil
	case <-ctx.Done():
		return exit{}, ctx.Err()
	}
}

// stopped refuses what needs an ended process.
func (p *process) stopped() (exit, error) {
	st, _, e := p.get()
	if st == task.Status_RUNNING || st == task.Status_PAUSED {
		return e, fmt.Errorf("the process is %s, it must have ended: %w", st, errdefs.ErrFailedPrecondition)
	}
	return e, nil
}
