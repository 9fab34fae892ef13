package engine

import (
	"context"
	"time"

	"github.com/containerd/log"
	api "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// The pause before a restart doubles from one to the next, until the container has
// run for a while.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = time.Minute
	steadyRun    = 10 * time.Second
)

// restarts is what is kept of a container's restarts.
type restarts struct {
	// Count is how many there were since it was started by hand, Pause how long the
	// last one was waited for.
	Count int           `json:",omitempty"`
	Pause time.Duration `json:",omitempty"`
	// Stopped tells that somebody stopped it.
	Stopped bool `json:",omitempty"`
}

// next decides whether a container that has ended is started again, and counts it.
func (r *restarts) next(p api.RestartPolicy, exit int, ran time.Duration) bool {
	if r.Stopped {
		return false
	}
	switch {
	case p.IsAlways(), p.IsUnlessStopped():
	case p.IsOnFailure():
		if exit == 0 || p.MaximumRetryCount > 0 && r.Count >= p.MaximumRetryCount {
			return false
		}
	default:
		return false
	}
	if ran >= steadyRun {
		r.Pause = 0
	}
	r.Pause = min(max(2*r.Pause, firstPause), longestPause)
	r.Count++
	return true
}

// withDaemon tells whether one that does not run is started when the daemon is.
func (r *restarts) withDaemon(p api.RestartPolicy) bool {
	return p.IsAlways() || p.IsUnlessStopped() && !r.Stopped
}

// checkRestart refuses policies that contradict other wishes.
func checkRestart(h *api.HostConfig) error {
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

// retry starts a container again after a pause.
func (e *Engine) retry(c *Container, after time.Duration) {
	over := make(chan struct{})
	c.mu.Lock()
	c.backoff = over
	c.mu.Unlock()
	e.work.Go(func() {
		t := time.NewTimer(after)
		defer t.Stop()
		select {
		case <-t.C:
			e.again(c, over)
		case <-over:
		case <-e.life.Done():
		}
	})
}

// again makes another start, unless somebody has said meanwhile that there be none.
func (e *Engine) again(c *Container, over chan struct{}) {
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	due := c.backoff == over && !c.rec.State.Removing
	if due {
		c.backoff = nil
	}
	c.mu.Unlock()
	if due {
		e.attempt(c)
	}
}

// attempt starts a container for the daemon's own reasons. What keeps it from
// running now may pass: a failure counts as an end. Called with op held.
func (e *Engine) attempt(c *Container) {
	ctx := context.WithoutCancel(e.life)
	before := c.state()
	err := e.start(ctx, c, "")
	if err == nil {
		return
	}
	_, host := c.config()
	c.mu.Lock()
	more := c.rec.Restart.next(host.RestartPolicy, failureCode(err), 0)
	pause := c.rec.Restart.Pause
	if more {
		c.rec.State = State{Restarting: true, ExitCode: failureCode(err), Error: err.Error(), StartedAt: before.StartedAt, FinishedAt: now(),
			Health: lastHealth(before.Health)}
	}
	c.mu.Unlock()
	if !more {
		e.failed(ctx, c, err)
		return
	}
	log.G(ctx).WithError(err).Warnf("container %s can't be started again; the next try is in %s", c.ID, pause)
	e.disconnectNetwork(ctx, c)
	e.dropShm(c)
	if err := e.save(ctx, c); err != nil {
		log.G(ctx).WithError(err).Warn("a failed start could not be recorded")
	}
	e.retry(c, pause)
}

// halt notes that a container shall not be started again, and takes it out of the
// pause before a restart; was is how it was before. If it runs, ended is closed at its end.
func (e *Engine) halt(ctx context.Context, c *Container) (was State, ended <-chan struct{}, err error) {
	c.op.Lock()
	defer c.op.Unlock()
	_, host := c.config()
	c.mu.Lock()
	was, ended = c.rec.State, c.ended
	c.rec.Restart.Stopped = true
	c.giveUp()
	c.mu.Unlock()
	if !host.RestartPolicy.IsNone() {
		err = e.save(ctx, c)
	}
	if was.Restarting {
		c.fire(waitExit)
	}
	return was, ended, err
}

// giveUp ends the pause before a restart without one. Called with op and mu held.
func (c *Container) giveUp() {
	if c.backoff != nil {
		close(c.backoff)
		c.backoff = nil
	}
	c.rec.State.Restarting = false
}

// ends tells whether who sends a signal wants the container to end and stay so.
func ends(sig unix.Signal, config *api.Config) bool {
	if sig == unix.SIGKILL {
		return true
	}
	if config.StopSignal == "" {
		return sig == unix.SIGTERM || sig == unix.SIGINT || sig == unix.SIGQUIT || sig == unix.SIGABRT
	}
	want, err := parseSignal(config.StopSignal, "SIGTERM")
	return err == nil && sig == want
}
