package sandbox

import (
	"context"
	"time"

	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/mount"
)

// CreateOptions say what a sandbox is made of.
type CreateOptions struct {
	Sandbox     Sandbox
	Rootfs      []mount.Mount
	Options     typeurl.Any // of the runtime
	NetNS       string      // path of the network namespace; empty for none
	Annotations map[string]string
}

// Instance is a sandbox that was started.
type Instance struct {
	ID      string
	Pid     uint32
	Created time.Time
	Labels  map[string]string
	// Address and Version are those of its task API, for containers in it.
	Address string
	Version uint32
	Spec    typeurl.Any
}

// Status is how a sandbox is.
type Status struct {
	ID              string
	Pid             uint32
	State           string // "SANDBOX_READY" or "SANDBOX_NOTREADY" with most shims
	Info            map[string]string
	Created, Exited time.Time
	Extra           typeurl.Any
	Address         string
	Version         uint32
}

// Exit is how a sandbox ended.
type Exit struct {
	Status uint32
	At     time.Time
}

// Metric is what a sandbox uses, as its runtime tells it.
type Metric struct {
	At   time.Time
	ID   string
	Data typeurl.Any
}

// Controller makes sandboxes of the context's namespace real. NotFound is a
// sandbox it doesn't hold; NotImplemented is what its runtime can't do.
type Controller interface {
	// Create starts what holds the sandbox.
	Create(ctx context.Context, id string, opts CreateOptions) error
	// Start makes it run.
	Start(ctx context.Context, id string) (Instance, error)
	// Platform is what its containers must be made for.
	Platform(ctx context.Context, id string) (ocispec.Platform, error)
	// Stop ends it within the time given; 0 leaves that to the runtime.
	Stop(ctx context.Context, id string, timeout time.Duration) error
	// Wait returns when it has ended.
	Wait(ctx context.Context, id string) (Exit, error)
	// Status tells how it is.
	Status(ctx context.Context, id string, verbose bool) (Status, error)
	// Shutdown removes all that is left of it. An unknown one is no error.
	Shutdown(ctx context.Context, id string) error
	// Metrics measures it.
	Metrics(ctx context.Context, id string) (Metric, error)
	// Update hands a changed sandbox over; fields name what has changed.
	Update(ctx context.Context, id string, s Sandbox, fields ...string) error
}
