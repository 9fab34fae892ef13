package stores

import (
	"context"

	ctd "github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/diff"
)

// Differ shows what applies and makes layers.
type Differ struct {
	Applier  diff.Applier
	Comparer diff.Comparer
}

var (
	_ ctd.Applier  = Differ{}
	_ ctd.Comparer = Differ{}
)

// Apply implements the applier.
func (d Differ) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...ctd.ApplyOpt) (ocispec.Descriptor, error) {
	var o ctd.ApplyConfig
	for _, opt := range opts {
		if err := opt(ctx, desc, &o); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return d.Applier.Apply(in(ctx), desc, FromMounts(mounts), diff.ApplyOptions{SyncFS: o.SyncFs, Progress: o.Progress})
}

// Compare implements the comparer. The layers that BuildKit compresses itself are
// made without it.
func (d Differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...ctd.Opt) (ocispec.Descriptor, error) {
	var o ctd.Config
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return d.Comparer.Compare(in(ctx), FromMounts(lower), FromMounts(upper),
		diff.CompareOptions{MediaType: o.MediaType, Reference: o.Reference, Labels: o.Labels, SourceDateEpoch: o.SourceDateEpoch})
}
