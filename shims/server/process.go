package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
)

// process is a container's init or an exec in it.
type process struct {
	id       string // empty for the init
	in       string
	out      string
	errw     string
	terminal bool
	spec     []byte // of an exec: process.json

	mu      sync.Mutex
	status  task.Status
	pid     int
	ended   exit
	done    chan struct{} // closed when it has ended
	streams *streams
	// What a client asked for before there were streams.
	inClosed      bool
	width, height uint32
}

func newProcess(id, in, out, errw string, terminal bool) *process {
	return &process{id: id, in: in, out: out, errw: errw, terminal: terminal, status: task.Status_CREATED, done: make(chan struct{})}
}

// spawn makes the process: args become the runtime's, with pid file and, for a
// terminal, console socket added before the container's ID.
func (p *process) spawn(ctx context.Context, cmd *command, bundle, containerID, verb string, args ...string) (<-chan exit, error) {
	s, err := openStreams(p.in, p.out, p.errw, p.terminal)
	if err != nil {
		return nil, err
	}
	pidFile := filepath.Join(bundle, "init.pid")
	if p.id != "" {
		pidFile = filepath.Join(bundle, p.id+".pid")
	}
	all := append([]string{verb, "--pid-file", pidFile}, args...)
	var sock *consoleSocket
	if p.terminal {
		if sock, err = newConsoleSocket(); err != nil {
			return nil, err
		}
		defer sock.close()
		all = append(all, "--console-socket", sock.path())
	}
	pid, ended, err := cmd.spawn(ctx, s.std, pidFile, append(all, containerID)...)
	if err == nil && p.terminal {
		err = p.takeTerminal(s, sock)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.streams = pid, s
	if p.inClosed {
		s.closeIn()
	}
	if p.terminal && p.width > 0 {
		return ended, s.resize(p.width, p.height)
	}
	return ended, nil
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
	if !p.terminal {
		return fmt.Errorf("the process has no terminal: %w", errdefs.ErrFailedPrecondition)
	}
	p.width, p.height = width, height
	if p.streams == nil || p.status == task.Status_STOPPED {
		return nil
	}
	return p.streams.resize(width, height)
}

func (p *process) takeTerminal(s *streams, sock *consoleSocket) error {
	tty, err := sock.receive()
	if err != nil {
		return err
	}
	return s.attach(tty, p.in, p.out)
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

func (p *process) get() (task.Status, int, exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.pid, p.ended
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

// writeSpec puts an exec's process.json where the runtime reads it.
func (p *process) writeSpec(bundle string) (string, error) {
	path := filepath.Join(bundle, p.id+".process.json")
	return path, os.WriteFile(path, p.spec, 0o600)
}

// forget removes an exec's files.
func (p *process) forget(bundle string) error {
	err := errors.Join(removeFile(filepath.Join(bundle, p.id+".process.json")), removeFile(filepath.Join(bundle, p.id+".pid")))
	return err
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
