package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/shims/manager"
)

// made is what is needed of a container's OCI spec after its start. The whole is in the
// record alone: most of it is the seccomp profile.
type made struct {
	process *specs.Process
	mounts  map[string]bool // where something is mounted
	users   *userns.Maps    // nil: the host's
	lost    error           // why nothing of this is known
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
		return known, known.lost
	}
	s, err := e.knownSpec(ctx, c)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made = madeOf(s)
	}
	return c.made, c.made.lost
}

// knownSpec is the spec in a container's record.
func (e *Engine) knownSpec(ctx context.Context, c *Container) (*specs.Spec, error) {
	stored, err := e.Containers.Get(e.in(ctx), c.ID)
	if err != nil {
		return nil, err
	}
	if stored.Spec == nil {
		return nil, conflict("container %s has not been started", c.ID)
	}
	return parseSpec(c.ID, stored.Spec.GetValue())
}

func parseSpec(id string, data []byte) (*specs.Spec, error) {
	s := &specs.Spec{}
	if err := json.Unmarshal(data, s); err != nil || s.Process == nil {
		return nil, fmt.Errorf("spec of container %s: %w", id, errors.Join(err, errdefs.ErrInternal))
	}
	return s, nil
}

// recoverSpec takes the spec of a container whose run is not in its record, because a daemon
// ended before it was due there, from the bundle of its task. If it is not there either,
// the record's spec is an earlier run's, by which nothing must be done to this one.
func (c *Container) recoverSpec(t *manager.Task) error {
	data, err := os.ReadFile(filepath.Join(t.Bundle, "config.json"))
	var s *specs.Spec
	if err == nil {
		s, err = parseSpec(c.ID, data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.made = &made{lost: fmt.Errorf("container %s runs by no known spec, restart it: %w", c.ID, err)}
		return err
	}
	c.stored.Spec, c.made = raw{specType + "Spec", data}, madeOf(s)
	return nil
}
