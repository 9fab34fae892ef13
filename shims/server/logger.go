package server

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// logger is a program that reads a container's output: containerd's binary://
// protocol. It finds standard output and error at descriptors 3 and 4, and
// closes descriptor 5 when it is ready. It lives as long as somebody writes.
type logger struct {
	cmd  *exec.Cmd
	ends [2]*os.File // what the process writes to
	done chan struct{}
}

// Bounds of a logger's start and of its last words.
const (
	loggerStart = 10 * time.Second
	loggerEnd   = 10 * time.Second
)

// startLogger starts the program that a stream names; nil if none does.
func startLogger(who key, e ends) (*logger, error) {
	u, err := url.Parse(e.out)
	if err != nil || u.Scheme != "binary" {
		return nil, nil
	}
	l := &logger{done: make(chan struct{})}
	l.cmd = exec.Command(u.Path)
	for name, values := range u.Query() {
		l.cmd.Args = append(l.cmd.Args, name)
		if len(values) > 0 && values[0] != "" {
			l.cmd.Args = append(l.cmd.Args, values[0])
		}
	}
	l.cmd.Env = append(os.Environ(), "CONTAINER_ID="+who.id, "CONTAINER_NAMESPACE="+who.namespace)
	l.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	return l, l.start()
}

func (l *logger) start() error {
	var reads [2]*os.File
	for i := range reads {
		r, w, err := os.Pipe()
		if err != nil {
			l.closeEnds()
			return err
		}
		reads[i], l.ends[i] = r, w
		defer r.Close()
	}
	ready, signal, err := os.Pipe()
	if err != nil {
		l.closeEnds()
		return err
	}
	defer ready.Close()
	l.cmd.ExtraFiles = []*os.File{reads[0], reads[1], signal}
	err = l.cmd.Start()
	signal.Close()
	if err != nil {
		l.closeEnds()
		return fmt.Errorf("logger %s: %w: %w", l.cmd.Path, err, errdefs.ErrInvalidArgument)
	}
	go func() { l.cmd.Wait(); close(l.done) }()
	if err := awaitReady(ready); err != nil {
		l.closeEnds()
		l.cmd.Process.Kill()
		return fmt.Errorf("logger %s: %w", l.cmd.Path, err)
	}
	return nil
}

// awaitReady waits for a byte or the end of the pipe.
func awaitReady(ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(loggerStart)); err != nil {
		return err
	}
	if _, err := ready.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("not ready after %s: %w", loggerStart, err)
	}
	return nil
}

// take hands out the end that the next stream writes to: output's, then error's.
func (l *logger) take() *os.File {
	f := l.ends[0]
	l.ends[0], l.ends[1] = l.ends[1], nil
	return f
}

func (l *logger) closeEnds() {
	for i, f := range l.ends {
		if f != nil {
			f.Close()
			l.ends[i] = nil
		}
	}
}

// close lets the program read to the end, for a while.
func (l *logger) close() {
	l.closeEnds()
	select {
	case <-l.done:
	case <-time.After(loggerEnd):
		l.cmd.Process.Kill()
	}
}
