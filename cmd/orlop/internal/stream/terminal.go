// Package stream connects the terminal to a process in a container: raw mode,
// window sizes, signals, and the streams of attach and exec.
package stream

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/orlop/orlop/cmd/internal/session"
)

// Raw puts the user's terminal into raw mode, and returns how to put it back, which
// may be called more than once. Without a terminal it does nothing.
func Raw(in *os.File) (restore func(), err error) {
	fd, ok := session.Terminal(in)
	if !ok {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { term.Restore(fd, old) }, nil
}

// Size is the size of the terminal in characters; zero without one.
func Size(s *session.Session) (height, width uint) {
	fd, ok := session.Terminal(s.Out)
	if !ok {
		return 0, 0
	}
	w, h, err := term.GetSize(fd)
	if err != nil {
		return 0, 0
	}
	return uint(h), uint(w)
}

// FollowSize calls resize now and whenever the window changes, until the context ends.
func FollowSize(ctx context.Context, s *session.Session, resize func(ctx context.Context, height, width uint) error) {
	if _, ok := session.Terminal(s.Out); !ok {
		return
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	go func() {
		defer signal.Stop(changes)
		for {
			if h, w := Size(s); h > 0 && w > 0 {
				resize(ctx, h, w) // a container that is gone has no size
			}
			select {
			case <-changes:
			case <-ctx.Done():
				return
			}
		}
	}()
}

// unforwarded are signals that concern this program alone.
var unforwarded = map[syscall.Signal]bool{unix.SIGCHLD: true, unix.SIGPIPE: true, unix.SIGURG: true, unix.SIGWINCH: true, unix.SIGTSTP: true, unix.SIGTTIN: true, unix.SIGTTOU: true}

// caught are the signals that are caught before anything is started: they would end
// this program. SIGPIPE is among them so that a reader that goes is an error.
var caught = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE}

// ForwardSignals hands signals to the container, until stop is called. The program
// ends then: they stay caught, as letting go of all of them takes as long as catching
// them, 2 ms, which is why the rarer ones are caught beside what follows.
func ForwardSignals(ctx context.Context, kill func(ctx context.Context, signal string) error) (stop func()) {
	in := make(chan os.Signal, 16)
	signal.Notify(in, caught...)
	go signal.Notify(in)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case got := <-in:
				sig, ok := got.(syscall.Signal)
				if ok && !unforwarded[sig] {
					kill(ctx, strings.TrimPrefix(unix.SignalName(sig), "SIG"))
				}
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}
