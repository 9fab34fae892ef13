package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/userns"
)

// made is what is needed of a container's OCI spec after its start. The whole is in the
// record alone: most of it is the seccomp profile.
type made struct {
	process *specs.Process
	mounts  map[string]bool // where something is mounted
	users   *userns.Maps    // nil: the host's
}

func madeOf(s *specs.Spec) *made {
	m := &made{process: s.Process, mounts: map[string]bool{}}
	for _, at := range s.Mounts {
		m.mounts[path.Clean(at.Destination)] = true
	}
	if s.Linux != nil && len(s.Linux.UIDMappings) > 0 {
		m.users = &userns.Maps{UIDs: s.Linux.UIDMappings, GIDs: s.Linux.GIDMappings}
	}
	return m
}

// made is what was made of the container's settings when it was started last. One that
// an earlier daemon has started is looked up in its record.
func (e *Engine) made(ctx context.Context, c *Container) (*made, error) {
	c.mu.Lock()
	known := c.made
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	stored, err := e.Containers.Get(e.in(ctx), c.ID)
	if err != nil {
		return nil, err
	}
	var s specs.Spec
	if stored.Spec == nil {
		return nil, conflict("container %s has not been started", c.ID)
	}
	if err := json.Unmarshal(stored.Spec.GetValue(), &s); err != nil || s.Process == nil {
		return nil, fmt.Errorf("spec of container %s: %w", c.ID, errors.Join(err, errdefs.ErrInternal))
	}
	known = madeOf(&s)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made = known
	}
	return c.made, nil
}
