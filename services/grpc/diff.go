package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/diff/v1"
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
	Differ Differ
}

// Register implements Service.
func (s *Diff) Register(r grpc.ServiceRegistrar) { wire.RegisterDiffServer(r, s) }

// Apply unpacks a layer onto mounts.
func (s *Diff) Apply(ctx context.Context, r *wire.ApplyRequest) (*wire.ApplyResponse, error) {
	d, err := s.Differ.Apply(ctx, protobuf.FromDescriptor(r.Diff), protobuf.FromMounts(r.Mounts), diff.ApplyOptions{SyncFS: r.SyncFs})
	return &wire.ApplyResponse{Applied: protobuf.ToDescriptor(d)}, err
}

// Diff makes a layer of what changed.
func (s *Diff) Diff(ctx context.Context, r *wire.DiffRequest) (*wire.DiffResponse, error) {
	opts := diff.CompareOptions{MediaType: r.MediaType, Reference: r.Ref, Labels: r.Labels}
	if r.SourceDateEpoch != nil {
		epoch := r.SourceDateEpoch.AsTime()
		opts.SourceDateEpoch = &epoch
	}
	d, err := s.Differ.Compare(ctx, protobuf.FromMounts(r.Left), protobuf.FromMounts(r.Right), opts)
	return &wire.DiffResponse{Diff: protobuf.ToDescriptor(d)}, err
}
