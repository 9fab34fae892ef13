package engine

import (
	"context"
	"errors"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/shims/manager"
)

// codeUnknown is the exit code of a container whose end nobody saw.
const codeUnknown = 255

// findWait bounds how long a shim may take to say how a container is at the start.
const findWait = 5 * time.Second

// monitor waits for the end of a run.
func (e *Engine) monitor(c *Container) {
	t, err := e.Tasks.Get(e.life, c.ID)
	resp := &wire.WaitResponse{}
	if err == nil {
		err = t.Call(e.life, "Wait", &wire.WaitRequest{ID: c.ID}, resp)
	}
	if e.life.Err() != nil {
		return // the daemon ends, the container goes on
	}
	code, at := int(resp.ExitStatus), resp.ExitedAt.AsTime()
	if err != nil {
		log.L.WithError(err).Warnf("nobody saw the end of container %s", c.ID)
		code, at = codeUnknown, now()
	}
	c.op.Lock()
	defer c.op.Unlock()
	e.finish(e.life, c, code, at)
}

// finish records the end of a run and deletes its task, in this order: the exit code
// must not get lost in between. Called with op held.
func (e *Engine) finish(ctx context.Context, c *Container, exit int, at time.Time) {
	c.mu.Lock()
	began := c.rec.State.StartedAt
	s, r := &c.rec.State, &c.rec.Restart
	s.Running, s.Paused, s.PID, s.ExitCode, s.FinishedAt = false, false, 0, exit, at.UTC()
	s.Restarting = r.next(c.rec.HostConfig.RestartPolicy, exit, at.Sub(began))
	s.Health = lastHealth(s.Health)
	again, pause, keep := s.Restarting, r.Pause, c.keep
	gone := c.rec.HostConfig.AutoRemove && !keep && !again
	c.mu.Unlock()
	if gone { // it needs no last state: after a crash it still has run, and is removed
		c.fire(waitCode) // now, so that who asks for the code then still finds it
	} else {
		e.saveEnd(ctx, c)
	}
	if _, err := e.Tasks.Delete(ctx, c.ID); err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Warnf("task of container %s", c.ID)
	}
	e.disconnectNetwork(ctx, c)
	e.dropShm(c)
	e.doneVolumes(ctx, c)
	c.mu.Lock()
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
	c.mu.Unlock()
	e.tell(c, "die", "exitCode", code(exit), "execDuration", code(int(at.Sub(began).Seconds())))
	c.fire(waitExit)
	if again && e.isOpen() {
		e.retry(c, pause)
		return
	}
	if !gone {
		return
	}
	if err := e.remove(ctx, c); err != nil {
		log.G(ctx).WithError(err).Warnf("container %s", c.ID)
		e.saveEnd(ctx, c)
	}
}

func (e *Engine) saveEnd(ctx context.Context, c *Container) {
	if err := e.save(ctx, c); err != nil {
		log.G(ctx).WithError(err).Error("the end of a container could not be recorded; it is tried again")
		e.saveAgain(c)
	}
}

// find looks after a container of an earlier run of the daemon.
func (e *Engine) find(ctx context.Context, c *Container) {
	c.op.Lock()
	defer c.op.Unlock()
	t, err := e.Tasks.Get(ctx, c.ID)
	if errdefs.IsNotFound(err) {
		switch {
		case c.rec.State.Running:
			e.finish(ctx, c, codeUnknown, now())
		case e.cutOff(ctx, c):
			if err := e.remove(ctx, c); err != nil {
				log.G(ctx).WithError(err).Warnf("container %s", c.ID)
			}
		}
		return
	}
	if err != nil {
		log.G(ctx).WithError(err).Warnf("container %s", c.ID)
		return
	}
	e.resume(ctx, c, t)
}

// resume takes up a container whose task is there.
func (e *Engine) resume(ctx context.Context, c *Container, t *manager.Task) {
	short, cancel := context.WithTimeout(ctx, findWait)
	defer cancel()
	st := &wire.StateResponse{}
	err := t.Call(short, "State", &wire.StateRequest{ID: c.ID}, st)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		log.G(ctx).Warnf("the shim of container %s does not answer", c.ID)
	case err != nil:
		log.G(ctx).WithError(err).Warnf("container %s", c.ID)
	case st.Status == task.Status_STOPPED:
		e.finish(ctx, c, int(st.ExitStatus), st.ExitedAt.AsTime())
		return
	case st.Status == task.Status_CREATED: // its start was cut off
		if _, err := e.Tasks.Delete(ctx, c.ID); err != nil {
			log.G(ctx).WithError(err).Warnf("task of container %s", c.ID)
		}
		e.failed(ctx, c, errCutOff)
		return
	}
	if !c.state().Running {
		if err := c.recoverSpec(t); err != nil {
			log.G(ctx).WithError(err).Errorf("container %s runs, by no known spec", c.ID)
		}
	}
	c.mu.Lock()
	s := &c.rec.State
	s.Running, s.Paused, s.PID = true, st.Status == task.Status_PAUSED, int(st.Pid)
	if s.StartedAt.IsZero() {
		s.StartedAt = now()
	}
	c.ended = make(chan struct{})
	c.mu.Unlock()
	e.followHealth(c, true)
	e.work.Go(func() { e.monitor(c) })
}

var errCutOff = worded.New(errdefs.ErrUnavailable, "the daemon was stopped while it started the container")
