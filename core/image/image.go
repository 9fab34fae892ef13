// Package image is the vocabulary of images: a name for a descriptor in the
// content store.
package image

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image names a manifest or index. Images are cheap: several may have one target.
type Image struct {
	// Name is a reference, usually registry/repository:tag.
	Name    string
	Labels  map[string]string
	Target  ocispec.Descriptor
	Created time.Time
	Updated time.Time
}

// Store keeps images of the context's namespace.
type Store interface {
	// Get returns the image of that name.
	Get(ctx context.Context, name string) (Image, error)
	// List returns the images that match any filter, sorted by name; no filter matches all.
	List(ctx context.Context, filters ...string) ([]Image, error)
	// Create adds an image; AlreadyExists if the name is taken.
	Create(ctx context.Context, img Image) (Image, error)
	// Update replaces the target and labels, or the fields that fieldpaths name.
	Update(ctx context.Context, img Image, fieldpaths ...string) (Image, error)
	// Delete removes the name. The collector removes what nothing names any more.
	// With target, the image must still have that digest.
	Delete(ctx context.Context, name string, opts DeleteOptions) error
}

// DeleteOptions tune [Store.Delete].
type DeleteOptions struct {
	// Sync waits for the collector.
	Sync bool
	// Target, where not nil, must be what the image points at; else NotFound.
	Target *ocispec.Descriptor
}
