package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/worded"
)

// stopTimeout is how long a container has to stop by default.
const stopTimeout = 10 * time.Second

// killWait bounds the wait for a container that was killed.
const killWait = 10 * time.Second

// parseSignal reads a name with or without SIG, or a number.
func parseSignal(text, otherwise string) (unix.Signal, error) {
	if text == "" {
		text = otherwise
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n > 0 {
		return n, nil
	}
	base, offset, plus := strings.Cut(strings.TrimPrefix(name, "SIG"), "+")
	if n, err := strconv.Atoi(offset); plus && err == nil && base == "RTMIN" && n >= 0 && n <= 30 {
		return unix.Signal(34 + n), nil // as the C library counts
	}
	return 0, invalid("invalid signal: %s", text)
}

// StopOptions say how a container is stopped; zero values mean as it was made.
type StopOptions struct {
	Signal  string
	Timeout *int // seconds; below 0 waits for ever
}

// Stop asks a container to end, and kills it if it doesn't. One that doesn't run is
// NotModified.
func (e *Engine) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	config, _ := c.config()
	if o.Signal == "" {
		o.Signal = config.StopSignal
	}
	sig, err := parseSignal(o.Signal, "SIGTERM")
	if err != nil {
		return err
	}
	wait := stopTimeout
	for _, t := range []*int{config.StopTimeout, o.Timeout} {
		if t != nil {
			wait = time.Duration(*t) * time.Second
		}
	}
	ctx = e.detached(ctx)
	was, ended, err := e.halt(ctx, c)
	if err != nil {
		return err
	}
	if ended == nil {
		if was.Restarting {
			e.tell(c, "stop")
			return nil
		}
		return errUnchanged
	}
	if err := e.signal(ctx, c, sig); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if wait >= 0 && !await(ended, wait) {
		if err := e.signal(ctx, c, unix.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if !await(ended, killWait) {
			return worded.New(errdefs.ErrUnavailable, "container %s did not end though it was killed", short(c.ID))
		}
	}
	<-ended
	e.tell(c, "stop")
	return nil
}

// await reports whether the end came in time.
func await(ended <-chan struct{}, within time.Duration) bool {
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

// signal sends a signal; a paused container is let go on to receive it.
func (e *Engine) signal(ctx context.Context, c *Container, sig unix.Signal) error {
	req := &wire.KillRequest{ID: c.ID, Signal: uint32(sig), All: sig == unix.SIGKILL}
	if err := e.call(ctx, c.ID, "Kill", req); err != nil {
		return err
	}
	e.tell(c, "kill", "signal", strconv.Itoa(int(sig)))
	if c.state().Paused {
		return e.unpause(ctx, c)
	}
	return nil
}

// Kill sends a signal, SIGKILL if none is named.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	sig, err := parseSignal(signal, "SIGKILL")
	if err != nil {
		return err
	}
	ctx = e.detached(ctx)
	ended, running := c.running()
	if config, _ := c.config(); ends(sig, config) {
		was, over, err := e.halt(ctx, c)
		if err != nil || was.Restarting {
			return err
		}
		ended, running = over, was.Running
	}
	if !running {
		return conflict("cannot kill container: %s: container %s is not running", ref, c.ID)
	}
	if err := e.signal(ctx, c, sig); err != nil {
		if errdefs.IsNotFound(err) {
			return conflict("cannot kill container: %s: container %s is not running", ref, c.ID)
		}
		return err
	}
	if sig == unix.SIGKILL && ended != nil {
		await(ended, killWait) // so that what comes next finds it ended
	}
	return nil
}

// Restart stops a container if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, ref string, o StopOptions) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	c.keeps(true)
	defer c.keeps(false)
	if err := e.Stop(ctx, c.ID, o); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	if err := e.Start(ctx, c.ID); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	e.tell(c, "restart")
	return nil
}

// keeps says whether a container stays there at its end though it removes itself.
func (c *Container) keeps(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = on
}

// Pause stops a container's processes where they are.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	c, err := e.mustRun(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if c.state().Paused {
		return conflict("container %s is already paused", ref)
	}
	ctx = e.detached(ctx)
	if err := e.call(ctx, c.ID, "Pause", &wire.PauseRequest{ID: c.ID}); err != nil {
		return err
	}
	c.mu.Lock()
	c.rec.State.Paused = true
	c.mu.Unlock()
	e.tell(c, "pause")
	return nil
}

// Unpause lets them go on.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	c, err := e.mustRun(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	if !c.state().Paused {
		return conflict("container %s is not paused", ref)
	}
	return e.unpause(e.detached(ctx), c)
}

func (e *Engine) unpause(ctx context.Context, c *Container) error {
	if err := e.call(ctx, c.ID, "Resume", &wire.ResumeRequest{ID: c.ID}); err != nil {
		return err
	}
	c.mu.Lock()
	c.rec.State.Paused = false
	c.mu.Unlock()
	e.tell(c, "unpause")
	return nil
}

// mustRun finds a container that runs.
func (e *Engine) mustRun(ref string) (*Container, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	s := c.state()
	if s.Running && s.PID == 0 { // it is being started
		c.op.Lock()
		s = c.state()
		c.op.Unlock()
	}
	switch {
	case s.Restarting:
		return nil, conflict("Container %s is restarting, wait until the container is running", c.ID)
	case !s.Running:
		return nil, conflict("container %s is not running", c.ID)
	}
	return c, nil
}

// Resize sets the size of a container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, height, width uint32) error {
	c, err := e.mustRun(ref)
	if err != nil {
		return err
	}
	err = e.call(e.in(ctx), c.ID, "ResizePty", &wire.ResizePtyRequest{ID: c.ID, Height: height, Width: width})
	if err == nil {
		e.tell(c, "resize", "height", strconv.Itoa(int(height)), "width", strconv.Itoa(int(width)))
	}
	return err
}
