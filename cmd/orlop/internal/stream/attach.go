package stream

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/internal/detach"
)

// Pipes are the ends of a connection to a process.
type Pipes struct {
	Stdin          bool
	Stdout, Stderr bool
	Terminal       bool
	// DetachKeys end the connection, on a terminal; empty is ctrl-p,ctrl-q.
	DetachKeys string
}

// Copy moves bytes both ways until the process's output has ended or the user has
// detached, which is [detach.Err]. With a terminal, the user's must be raw.
func Copy(ctx context.Context, s *session.Session, conn client.HijackedResponse, p Pipes) error {
	defer conn.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		err := send(s, conn, p)
		if errors.Is(err, detach.Err) {
			end(err)
		}
		sent <- err
	}()
	var err error
	if p.Stdout || p.Stderr {
		err = receive(s, conn, p)
	} else {
		err = <-sent
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// send copies the user's input and tells its end.
func send(s *session.Session, conn client.HijackedResponse, p Pipes) error {
	if !p.Stdin || s.In == nil {
		return nil // the connection stays open for what comes back
	}
	var in io.Reader = s.In
	if p.Terminal {
		var err error
		if in, err = detach.Reader(in, p.DetachKeys); err != nil {
			return err
		}
	}
	if _, err := io.Copy(conn.Conn, in); err != nil {
		return err
	}
	return conn.CloseWrite()
}

func receive(s *session.Session, conn client.HijackedResponse, p Pipes) error {
	out, errs := s.Out, s.Err
	if !p.Stdout {
		out = io.Discard
	}
	if !p.Stderr {
		errs = io.Discard
	}
	var err error
	if p.Terminal {
		_, err = io.Copy(out, conn.Reader)
	} else {
		_, err = stdcopy.StdCopy(out, errs, conn.Reader)
	}
	return err
}
