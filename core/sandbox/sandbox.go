// Package sandbox is the vocabulary of sandboxes: what groups containers (a
// Kubernetes pod).
package sandbox

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/container"
)

// Sandbox is metadata only; a sandbox controller makes it real.
type Sandbox struct {
	ID         string
	Labels     map[string]string
	Runtime    container.Runtime
	Spec       typeurl.Any
	Sandboxer  string // name of the controller
	Extensions map[string]typeurl.Any
	Created    time.Time
	Updated    time.Time
}

// Store keeps sandboxes of the context's namespace.
type Store interface {
	// Create adds a sandbox; AlreadyExists if the ID is taken.
	Create(ctx context.Context, s Sandbox) (Sandbox, error)
	// Update replaces labels, extensions, spec and runtime, or what fieldpaths name.
	Update(ctx context.Context, s Sandbox, fieldpaths ...string) (Sandbox, error)
	// Get returns one sandbox.
	Get(ctx context.Context, id string) (Sandbox, error)
	// List returns the sandboxes that match any filter, sorted by ID.
	List(ctx context.Context, filters ...string) ([]Sandbox, error)
	// Delete removes the sandbox.
	Delete(ctx context.Context, id string) error
}
