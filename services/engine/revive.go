package engine

import (
	"slices"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"
)

// revivals is how many containers are started at once when the daemon starts.
const revivals = 8

// due tells whether a container that doesn't run is started with the daemon.
func (c *Container) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.rec.State
	ran := !s.StartedAt.IsZero()
	return !s.Running && !s.Removing && (s.Restarting || ran && c.rec.Restart.withDaemon(c.rec.HostConfig.RestartPolicy))
}

// revive starts what shall run: each after those it depends on, the oldest first.
// Clients are served meanwhile.
func (e *Engine) revive() {
	slots := make(chan struct{}, revivals)
	done := map[*Container]chan struct{}{}
	for _, c := range e.inOrder() {
		before := []chan struct{}{}
		for _, other := range e.dependencies(c) {
			if ch, ok := done[other]; ok {
				before = append(before, ch)
			}
		}
		select {
		case slots <- struct{}{}:
		case <-e.life.Done():
			return
		}
		ended := make(chan struct{})
		done[c] = ended
		// What it waits for has its slot already: the order is that of dependencies.
		e.work.Go(func() {
			defer func() { close(ended); <-slots }()
			for _, ch := range before {
				<-ch
			}
			e.reviveOne(c)
		})
	}
}

// reviveOne starts a container unless a client was faster. What is left of a pause
// before a restart is waited for first.
func (e *Engine) reviveOne(c *Container) {
	c.op.Lock()
	defer c.op.Unlock()
	if e.life.Err() != nil || !c.due() || !e.knows(c) {
		return
	}
	c.mu.Lock()
	s, pause, waits := c.rec.State, c.rec.Restart.Pause, c.backoff != nil
	paused := s.Restarting && s.FinishedAt.Before(e.opened)
	if !paused && !waits {
		c.rec.Restart = restarts{} // it went with the machine, or with its shim
	}
	c.mu.Unlock()
	left := pause - time.Since(s.FinishedAt)
	switch {
	case waits:
	case paused && left > 0:
		e.retry(c, min(left, pause))
	default:
		e.attempt(c)
	}
}

// knows tells whether the container is still there.
func (e *Engine) knows(c *Container) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byID[c.ID] == c
}

// inOrder lists the containers that are due: those that others depend on before
// them, else the oldest first.
func (e *Engine) inOrder() []*Container {
	e.mu.Lock()
	all := make([]*Container, 0, len(e.byID))
	for _, c := range e.byID {
		all = append(all, c)
	}
	e.mu.Unlock()
	all = slices.DeleteFunc(all, func(c *Container) bool { return !c.due() })
	slices.SortFunc(all, func(a, b *Container) int {
		if d := a.born().Compare(b.born()); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	var out []*Container
	seen := map[*Container]bool{}
	var visit func(c *Container)
	visit = func(c *Container) {
		if seen[c] {
			return // a circle is cut where it closes
		}
		seen[c] = true
		for _, other := range e.dependencies(c) {
			visit(other)
		}
		if c.due() {
			out = append(out, c)
		}
	}
	for _, c := range all {
		visit(c)
	}
	return out
}

func (c *Container) born() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored.Created
}

// dependencies are the containers that must run, or be there, before this one runs.
func (e *Engine) dependencies(c *Container) []*Container {
	_, h := c.config()
	var out []*Container
	for _, ref := range dependsOn(h) {
		if other, err := e.lookup(ref); err == nil && other != c {
			out = append(out, other)
		}
	}
	return out
}

// dependsOn names the containers that a config refers to.
func dependsOn(h *api.HostConfig) []string {
	var refs []string
	if h.NetworkMode.IsContainer() {
		refs = append(refs, h.NetworkMode.ConnectedContainer())
	}
	if h.IpcMode.IsContainer() {
		refs = append(refs, h.IpcMode.Container())
	}
	if h.PidMode.IsContainer() {
		refs = append(refs, h.PidMode.Container())
	}
	for _, v := range h.VolumesFrom {
		ref, _, _ := strings.Cut(v, ":")
		refs = append(refs, ref)
	}
	for _, l := range h.Links {
		ref, _, _ := strings.Cut(l, ":")
		refs = append(refs, ref)
	}
	return refs
}
