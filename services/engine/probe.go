package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	api "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// probes is how many health checks run at once, in all containers.
const probes = 16

// watchHealth checks a container's health until its end. A paused one is not checked.
func (e *Engine) watchHealth(c *Container, k *check, ended <-chan struct{}) {
	wait := c.nextCheck(k)
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ended:
			return
		case <-e.life.Done():
			return
		}
		if !c.state().Paused {
			e.checkHealth(c, k, ended)
		}
		s := c.state()
		t.Reset(k.pause(healthStatus(s), s.StartedAt))
	}
}

// followHealth begins to check a container that runs, if it is to be checked. found
// tells that an earlier daemon may have been at it.
func (e *Engine) followHealth(c *Container, found bool) {
	config, _ := c.config()
	k := checkOf(config)
	if k == nil {
		return
	}
	c.mu.Lock()
	if c.rec.State.Health == nil {
		c.rec.State.Health = firstHealth(config, nil)
	}
	ended := c.ended
	c.mu.Unlock()
	e.work.Go(func() {
		if found {
			e.dropProbe(c)
		}
		e.watchHealth(c, k, ended)
	})
}

// nextCheck is how long it is until the first check, or the next one of a daemon
// that goes on where another has ended.
func (c *Container) nextCheck(k *check) time.Duration {
	s := c.state()
	wait := k.pause(healthStatus(s), s.StartedAt)
	last := s.StartedAt
	if n := len(s.Health.Log); n > 0 && s.Health.Log[n-1].End.After(last) {
		last = s.Health.Log[n-1].End
	}
	return min(max(wait-time.Since(last), 0), wait)
}

// checkHealth makes one check and records what comes of it.
func (e *Engine) checkHealth(c *Container, k *check, ended <-chan struct{}) {
	select {
	case e.probing <- struct{}{}:
	case <-ended:
		return
	case <-e.life.Done():
		return
	}
	r := e.probe(c, k, ended)
	<-e.probing
	if r == nil {
		return
	}
	c.mu.Lock()
	s := &c.rec.State
	if c.ended != ended || s.Health == nil {
		c.mu.Unlock()
		return // it ended meanwhile
	}
	before := s.Health.Status
	s.Health = k.after(s.Health, r, s.StartedAt)
	status := s.Health.Status
	c.mu.Unlock()
	if status == before {
		return // the results alone are worth no write
	}
	c.op.Lock()
	defer c.op.Unlock()
	if _, running := c.running(); !running {
		return
	}
	if err := e.save(e.life, c); err != nil {
		log.G(e.life).WithError(err).Warn("a container's health could not be recorded")
	}
	e.tell(c, "health_status: "+string(status))
}

// probe runs a check in the container. There is no result if nothing can be said: the
// container has ended, is paused, or the daemon ends.
func (e *Engine) probe(c *Container, k *check, ended <-chan struct{}) *api.HealthcheckResult {
	x := &execution{Exec: Exec{Args: k.args, Stdout: true, Stderr: true}, id: probeID(c), c: c, started: true, done: make(chan struct{})}
	e.mu.Lock()
	e.execs[x.id] = x
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.execs, x.id)
		e.mu.Unlock()
	}()
	e.tell(c, "exec_create: "+strings.Join(x.Args, " "), "execID", x.id)
	r := &api.HealthcheckResult{Start: now()}
	p := &pipes{dir: e.probeFolder(c)}
	err := os.MkdirAll(p.dir, 0o700)
	if err == nil {
		err = p.output("out", &p.outPath, &p.out)
	}
	if err == nil {
		p.errPath = p.outPath // both in the order in which they come
		err = e.startExec(e.detached(e.life), x, p)
	}
	if err == nil {
		e.work.Go(func() { e.awaitExec(x, p) })
		r.Output, err = e.probeOutput(x, p, k.timeout)
	}
	p.close()
	r.End = now()
	if s := c.state(); e.life.Err() != nil || s.Paused || !s.Running || isClosed(ended) {
		return nil
	}
	if err != nil {
		if errdefs.IsAlreadyExists(err) {
			e.dropProbe(c)
		}
		r.ExitCode, r.Output = -1, err.Error()
		return r
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	r.ExitCode = *x.code
	return r
}

// probeOutput reads what a check prints, until its end. One that takes too long is killed.
func (e *Engine) probeOutput(x *execution, p *pipes, timeout time.Duration) (string, error) {
	late := make(chan struct{})
	t := time.AfterFunc(timeout, func() {
		close(late)
		if err := e.killExec(e.detached(e.life), x, unix.SIGKILL); err != nil {
			log.L.WithError(err).Debugf("health check of container %s", x.c.ID)
		}
		p.drain()
	})
	defer t.Stop()
	out := &limited{most: healthOutput}
	io.Copy(out, p.out) // ends with the process, or soon after
	select {
	case <-x.done:
	case <-late:
		await(x.done, killWait)
	case <-e.life.Done():
		return "", e.life.Err()
	}
	if isClosed(late) {
		text := fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
		if out.String() != "" {
			text += ": " + out.String()
		}
		return "", fmt.Errorf("%s", text)
	}
	return out.String(), nil
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// killExec sends a signal to an exec's process.
func (e *Engine) killExec(ctx context.Context, x *execution, sig unix.Signal) error {
	return e.call(ctx, x.c.ID, "Kill", &wire.KillRequest{ID: x.c.ID, ExecID: x.id, Signal: uint32(sig)})
}

// probeID is the exec of a container's checks: there is one at a time, and the next
// daemon must find it.
func probeID(c *Container) string {
	sum := sha256.Sum256([]byte("health check of " + c.ID))
	return hex.EncodeToString(sum[:])
}

func (e *Engine) probeFolder(c *Container) string {
	return filepath.Join(e.runFolder(c.ID), probeID(c)[:32])
}

// dropProbe ends a check that another daemon has begun, or that did not die when it was killed.
func (e *Engine) dropProbe(c *Container) {
	x := &execution{id: probeID(c), c: c}
	ctx := e.detached(e.life)
	if err := e.killExec(ctx, x, unix.SIGKILL); err == nil {
		short, cancel := context.WithTimeout(ctx, killWait)
		defer cancel()
		if t, err := e.Tasks.Get(ctx, c.ID); err == nil {
			t.Call(short, "Wait", &wire.WaitRequest{ID: c.ID, ExecID: x.id}, &wire.WaitResponse{})
		}
	}
	e.deleteExec(ctx, x)
	os.RemoveAll(e.probeFolder(c))
}

// limited keeps the beginning of what is written.
type limited struct {
	most int
	kept []byte
	more bool
}

// Write takes everything.
func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.most-len(l.kept))
	l.kept = append(l.kept, p[:n]...)
	l.more = l.more || n < len(p)
	return len(p), nil
}

// String is what was kept, with dots for what was not.
func (l *limited) String() string {
	if l.more {
		return string(l.kept) + "..."
	}
	return string(l.kept)
}
