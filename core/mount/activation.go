package mount

import (
	"context"
	"time"
)

// Active is a mount that a [Manager] holds.
type Active struct {
	Mount
	// MountedAt is when it was made.
	MountedAt time.Time
	// Point is where its files are, or for a loop device its path.
	Point string
}

// Activation is a list of mounts of which a manager has made those that a plain
// mount(2) can't make.
type Activation struct {
	// Name is unique in its namespace.
	Name string
	// Active are the mounts made, in order.
	Active []Active
	// System are the mounts that are left to whoever uses the files, never none.
	System []Mount
	// Labels are the user's, and steer the collector.
	Labels map[string]string
}

// ActivateOptions tune [Manager.Activate].
type ActivateOptions struct {
	Labels map[string]string
	// Temporary makes all mounts, so that what is left is one bind.
	Temporary bool
}

// Manager makes the mounts that need more than mount(2): loop devices, and
// mounts whose words depend on those before. Activations are kept in the
// context's namespace; one made under a lease goes with it, all others stay until
// they are deactivated.
type Manager interface {
	// Activate makes what it has to. A list that the system can mount by itself is
	// NotImplemented, unless it is Temporary.
	Activate(ctx context.Context, name string, mounts []Mount, opts ActivateOptions) (Activation, error)
	// Deactivate undoes all.
	Deactivate(ctx context.Context, name string) error
	// Info returns one activation.
	Info(ctx context.Context, name string) (Activation, error)
	// Update replaces labels: all, or those named by fieldpaths.
	Update(ctx context.Context, a Activation, fieldpaths ...string) (Activation, error)
	// List returns the activations that match any filter, sorted by name.
	List(ctx context.Context, filters ...string) ([]Activation, error)
}

// Activations keeps the records behind a [Manager].
type Activations interface {
	Create(ctx context.Context, a Activation) error
	Update(ctx context.Context, a Activation, fieldpaths ...string) (Activation, error)
	Get(ctx context.Context, name string) (Activation, error)
	List(ctx context.Context, filters ...string) ([]Activation, error)
	Delete(ctx context.Context, name string) error
}
