// Package diff is the vocabulary of layer application: turning a layer blob
// into files below mounts, and the difference of two trees into a layer blob.
package diff

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/mount"
)

// Applier unpacks a layer blob from the content store onto mounts. It returns
// the descriptor of the uncompressed tar: its digest is the diff ID, its size
// in bytes.
type Applier interface {
	Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts ApplyOptions) (ocispec.Descriptor, error)
}

// ApplyOptions tune [Applier.Apply].
type ApplyOptions struct {
	// SyncFS asks for a syncfs of the target before return.
	SyncFS bool
	// Progress, where set, is told the bytes read of the blob so far.
	Progress func(int64)
}

// Comparer makes a layer blob of what upper has changed against lower and puts
// it into the content store.
type Comparer interface {
	Compare(ctx context.Context, lower, upper []mount.Mount, opts CompareOptions) (ocispec.Descriptor, error)
}

// CompareOptions tune [Comparer.Compare].
type CompareOptions struct {
	// MediaType of the layer; empty is OCI tar+gzip.
	MediaType string
	// Reference names the ingest; empty makes a unique one.
	Reference string
	// Labels are set on the blob.
	Labels map[string]string
	// SourceDateEpoch caps file times where not nil.
	SourceDateEpoch *time.Time
	// DiffID receives the digest of the uncompressed tar.
	DiffID *digest.Digest
}
