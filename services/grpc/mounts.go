package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/mounts/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/protobuf"
)

// Mounts serves the mounts service.
type Mounts struct {
	wire.UnimplementedMountsServer
	Manager mount.Manager
}

// Register implements Service.
func (s *Mounts) Register(r grpc.ServiceRegistrar) { wire.RegisterMountsServer(r, s) }

// Activate makes the mounts that need more than the system.
func (s *Mounts) Activate(ctx context.Context, r *wire.ActivateRequest) (*wire.ActivateResponse, error) {
	a, err := s.Manager.Activate(ctx, r.Name, protobuf.FromMounts(r.Mounts), mount.ActivateOptions{Labels: r.Labels, Temporary: r.Temporary})
	return &wire.ActivateResponse{Info: protobuf.ToActivation(a)}, err
}

// Deactivate undoes them.
func (s *Mounts) Deactivate(ctx context.Context, r *wire.DeactivateRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Manager.Deactivate(ctx, r.Name)
}

// Info tells of one activation.
func (s *Mounts) Info(ctx context.Context, r *wire.InfoRequest) (*wire.InfoResponse, error) {
	a, err := s.Manager.Info(ctx, r.Name)
	return &wire.InfoResponse{Info: protobuf.ToActivation(a)}, err
}

// Update changes labels.
func (s *Mounts) Update(ctx context.Context, r *wire.UpdateRequest) (*wire.UpdateResponse, error) {
	a, err := s.Manager.Update(ctx, protobuf.FromActivation(r.Info), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateResponse{Info: protobuf.ToActivation(a)}, err
}

// List sends the activations that match.
func (s *Mounts) List(r *wire.ListRequest, out wire.Mounts_ListServer) error {
	all, err := s.Manager.List(out.Context(), r.Filters...)
	for _, a := range all {
		if err := out.Send(&wire.ListMessage{Info: protobuf.ToActivation(a)}); err != nil {
			return err
		}
	}
	return err
}
