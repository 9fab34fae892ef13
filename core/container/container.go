// Package container is the vocabulary of containers: the wish to run something,
// with all it needs. What runs is a task (core/task).
package container

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
)

// Container is metadata only: creating one starts nothing.
type Container struct {
	ID          string
	Labels      map[string]string
	Image       string // name of the image it was made from; informational
	Runtime     Runtime
	Spec        typeurl.Any // OCI runtime spec as JSON
	SnapshotKey string
	Snapshotter string
	SandboxID   string
	Extensions  map[string]typeurl.Any
	Created     time.Time
	Updated     time.Time
}

// Runtime says which shim runs the container.
type Runtime struct {
	Name    string // "io.containerd.runc.v2", "io.containerd.orlop.v1", or an absolute path
	Options typeurl.Any
}

// Store keeps containers of the context's namespace.
type Store interface {
	// Get returns one container.
	Get(ctx context.Context, id string) (Container, error)
	// List returns the containers that match any filter, sorted by ID.
	List(ctx context.Context, filters ...string) ([]Container, error)
	// Create adds a container; AlreadyExists if the ID is taken.
	Create(ctx context.Context, c Container) (Container, error)
	// Update replaces labels, spec, extensions, image and snapshot key, or what
	// fieldpaths name. Runtime and snapshotter can't change.
	Update(ctx context.Context, c Container, fieldpaths ...string) (Container, error)
	// Delete removes the container.
	Delete(ctx context.Context, id string) error
}
