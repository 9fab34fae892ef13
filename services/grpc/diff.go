package grpc

import (
	"context"
	"fmt"

	wire "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/protobuf"
)

// Differ applies and makes layers.
type Differ interface {
	diff.Applier
	diff.Comparer
}

// Diff serves the diff service.
type Diff struct {
	wire.UnimplementedDiffServer
	// Differs are tried in order; NotImplemented passes on to the next.
	Differs []Differ
}

// first returns the answer of the first differ that can do it.
func (s *Diff) first(try func(Differ) (ocispec.Descriptor, error)) (ocispec.Descriptor, error) {
	err := fmt.Errorf("there is no differ: %w", errdefs.ErrNotImplemented)
	for _, d := range s.Differs {
		var desc ocispec.Descriptor
		if desc, err = try(d); err == nil || !errdefs.IsNotImplemented(err) {
			return desc, err
		}
	}
	return ocispec.Descriptor{}, err
}

// Register implements Service.
func (s *Diff) Register(r grpc.ServiceRegistrar) { wire.RegisterDiffServer(r, s) }

// Apply unpacks a layer onto mounts.
func (s *Diff) Apply(ctx context.Context, r *wire.ApplyRequest) (*wire.ApplyResponse, error) {
	d, err := s.first(func(d Differ) (ocispec.Descriptor, error) {
		return d.Apply(ctx, protobuf.FromDescriptor(r.Diff), protobuf.FromMounts(r.Mounts), diff.ApplyOptions{SyncFS: r.SyncFs})
	})
	return &wire.ApplyResponse{Applied: protobuf.ToDescriptor(d)}, err
}

// Diff makes a layer of what changed.
func (s *Diff) Diff(ctx context.Context, r *wire.DiffRequest) (*wire.DiffResponse, error) {
	opts := diff.CompareOptions{MediaType: r.MediaType, Reference: r.Ref, Labels: r.Labels}
	if r.SourceDateEpoch != nil {
		epoch := r.SourceDateEpoch.AsTime()
		opts.SourceDateEpoch = &epoch
	}
	d, err := s.first(func(d Differ) (ocispec.Descriptor, error) {
		return d.Compare(ctx, protobuf.FromMounts(r.Left), protobuf.FromMounts(r.Right), opts)
	})
	return &wire.DiffResponse{Diff: protobuf.ToDescriptor(d)}, err
}
