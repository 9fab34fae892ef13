package engine

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/internal/detach"
)

const (
	// maxPending bounds clients that wait for a container to start; the oldest
	// makes room.
	maxPending = 64
	// maxFrame bounds a frame of a shim, in bytes.
	maxFrame = 1 << 20
	// joinWait bounds how long a shim may take to let a client in.
	joinWait = 5 * time.Second
	// endWait bounds how long an attachment that its shim has ended waits for the
	// container's end: shims end, too.
	endWait = 5 * time.Second
)

// Streams are what a client has attached. What is nil is not wanted.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// DetachKeys end it when they are read from In of a terminal; empty is
	// ctrl-p,ctrl-q.
	DetachKeys string
}

// Attachment is a client attached to a container, which may not run yet.
type Attachment struct {
	// TTY tells that there is one stream only.
	TTY  bool
	e    *Engine
	c    *Container
	once sync.Once
	exit *Waiter // for the end of the run that it joins

	ready chan struct{} // closed when conn or err is set
	conn  net.Conn      // to the shim
	err   error
}

// Attach attaches to a container: what it prints from now on is not missed. One that
// doesn't run is attached to at its start. The attachment must be closed.
func (e *Engine) Attach(ctx context.Context, ref string) (*Attachment, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	config, _ := c.config()
	a := &Attachment{TTY: config.Tty, e: e, c: c, exit: newWaiter(c, nextCode), ready: make(chan struct{})}
	c.mu.Lock()
	s, ended := c.rec.State, c.ended
	started := ended != nil && s.Running // else it is about to end
	if s.Paused {
		c.mu.Unlock()
		return nil, conflict("container %s is paused, unpause the container before attach", ref)
	}
	if s.Restarting {
		c.mu.Unlock()
		return nil, conflict("Container %s is restarting, wait until the container is running", c.ID)
	}
	c.waiters[a.exit] = struct{}{}
	if !started {
		a.wait()
	}
	c.mu.Unlock()
	if started {
		if err := a.joinOrWait(ctx, ended); err != nil {
			a.exit.Close()
			return nil, err
		}
	}
	e.tell(c, "attach")
	return a, nil
}

// joinOrWait joins a container that runs. One that turns out to have ended just now is
// attached to at its next start, as if that had been known.
func (a *Attachment) joinOrWait(ctx context.Context, ended <-chan struct{}) error {
	err := a.join(ctx)
	if err == nil {
		return nil
	}
	if !await(ended, joinWait) {
		return a.refused(ctx, err)
	}
	if _, err := a.e.lookup(a.c.ID); err != nil {
		return err // it has removed itself
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.wait()
	return nil
}

// wait puts the attachment among those that wait for the start. Called with c.mu
// held.
func (a *Attachment) wait() {
	c := a.c
	if len(c.pending) >= maxPending {
		oldest := c.pending[0]
		c.pending = c.pending[1:]
		go oldest.end(worded.New(unix.EAGAIN, "too many clients wait for the container to start"))
	}
	c.pending = append(c.pending, a)
}

// connect joins those who wait, before the process starts.
func (e *Engine) connect(ctx context.Context, c *Container) {
	c.mu.Lock()
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, a := range pending {
		wg.Go(func() {
			if err := a.join(ctx); err != nil {
				a.end(a.refused(ctx, err))
			}
		})
	}
	wg.Wait()
}

// join connects to the shim, and returns when it has let the client in.
func (a *Attachment) join(ctx context.Context) error {
	conn, err := a.dial(ctx)
	if err != nil {
		return err
	}
	a.once.Do(func() { a.conn = conn; close(a.ready); conn = nil })
	if conn != nil {
		conn.Close() // it was ended meanwhile
	}
	return nil
}

func (a *Attachment) refused(ctx context.Context, err error) error {
	log.G(ctx).WithError(err).Warnf("attach to container %s", a.c.ID)
	return conflict("cannot attach to container %s: %v", short(a.c.ID), err)
}

func (a *Attachment) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: joinWait}
	conn, err := d.DialContext(ctx, "unix", a.e.attachSocket(a.c.ID))
	if err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(joinWait))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("the shim does not let clients in: %w", err)
	}
	conn.SetReadDeadline(time.Time{})
	return conn, nil
}

// end ends an attachment that is not connected.
func (a *Attachment) end(why error) {
	a.once.Do(func() { a.err = why; close(a.ready) })
}

// Close ends it.
func (a *Attachment) Close() {
	a.end(errUnchanged)
	a.exit.Close()
	if a.conn != nil {
		a.conn.Close()
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	for i, p := range a.c.pending {
		if p == a {
			a.c.pending = append(a.c.pending[:i:i], a.c.pending[i+1:]...)
			break
		}
	}
}

// Run copies streams until the container's end, the detach keys (detach.Err), or
// the end of the context. When it returns because of the container's end, that is
// recorded: whoever has read the last of its output can ask for its exit code, and
// remove its networks. One that removes itself goes on doing so meanwhile.
func (a *Attachment) Run(ctx context.Context, s Streams) error {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.err != nil {
		return a.err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { a.conn.Close() })
	defer stop()
	config, _ := a.c.config()
	if s.In != nil && config.OpenStdin {
		go func() {
			if err := a.stdin(ctx, s, config.StdinOnce); errors.Is(err, detach.Err) {
				cancel(err)
			}
		}()
	}
	err := demultiplex(a.conn, s)
	if cause := context.Cause(ctx); errors.Is(cause, detach.Err) {
		a.e.tell(a.c, "detach")
		return cause
	}
	if err == nil {
		a.exit.within(ctx, endWait)
	}
	return err
}

// demultiplex hands frames to the streams until their end.
func demultiplex(conn io.Reader, s Streams) error {
	r := bufio.NewReader(conn)
	var header [8]byte
	buf := make([]byte, 32<<10)
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return ignoreEnd(err)
		}
		n := binary.BigEndian.Uint32(header[4:])
		if n > maxFrame {
			return fmt.Errorf("a frame of the shim has %d bytes", n)
		}
		if int(n) > len(buf) {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return ignoreEnd(err)
		}
		to := s.Out
		if header[0] == 2 {
			to = s.Err
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// stdin passes on what the client sends. If it is the one client that may, its end is
// the end of the container's input.
func (a *Attachment) stdin(ctx context.Context, s Streams, once bool) error {
	fifo, err := openStdin(filepath.Join(a.e.runFolder(a.c.ID), "in"))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { fifo.Close() })
	defer stop()
	in := s.In
	if a.TTY {
		if in, err = detach.Reader(in, s.DetachKeys); err != nil {
			return err
		}
	}
	_, err = io.Copy(fifo, in)
	fifo.Close()
	if errors.Is(err, detach.Err) || !once {
		return err
	}
	return a.e.call(a.e.life, a.c.ID, "CloseIO", &wire.CloseIORequest{ID: a.c.ID, Stdin: true})
}

// openStdin opens a fifo that the shim reads, so that Close ends a write that waits.
func openStdin(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}
