// Package lease keeps things alive while they are being made. What is created
// under a lease is not collected until the lease ends or expires.
package lease

import (
	"context"
	"time"
)

// Header is the gRPC metadata key that carries the lease ID; it is containerd's.
const Header = "containerd-lease"

// Lease is a named root for the collector.
type Lease struct {
	ID      string
	Created time.Time
	Labels  map[string]string // label.GCExpire sets an end, in RFC 3339
}

// Resource is something a lease holds.
type Resource struct {
	ID   string // digest, snapshot key, image name or ingest ref
	Type string // "content", "snapshots/<snapshotter>", "ingests", "images"
}

// Manager keeps the leases of the context's namespace.
type Manager interface {
	// Create adds a lease; AlreadyExists if the ID is taken.
	Create(ctx context.Context, l Lease) (Lease, error)
	// Delete ends a lease; with sync it waits for the collector.
	Delete(ctx context.Context, id string, sync bool) error
	// List returns leases that match any filter, sorted by ID.
	List(ctx context.Context, filters ...string) ([]Lease, error)
	// AddResource makes the lease hold r.
	AddResource(ctx context.Context, id string, r Resource) error
	// DeleteResource makes the lease let go of r.
	DeleteResource(ctx context.Context, id string, r Resource) error
	// Resources lists what the lease holds.
	Resources(ctx context.Context, id string) ([]Resource, error)
}

type key struct{}

// With returns a context whose creations are held by lease id.
func With(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// From returns the lease of ctx and whether there is one.
func From(ctx context.Context) (string, bool) {
	id, ok := ctx.Value(key{}).(string)
	return id, ok && id != ""
}
