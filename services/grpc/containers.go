package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/containers/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/protobuf"
)

// Containers serves the containers service.
type Containers struct {
	wire.UnimplementedContainersServer
	Store container.Store
}

// Register implements Service.
func (s *Containers) Register(r grpc.ServiceRegistrar) { wire.RegisterContainersServer(r, s) }

// Get returns one container.
func (s *Containers) Get(ctx context.Context, r *wire.GetContainerRequest) (*wire.GetContainerResponse, error) {
	c, err := s.Store.Get(ctx, r.ID)
	return &wire.GetContainerResponse{Container: protobuf.ToContainer(c)}, err
}

// List returns the containers that match.
func (s *Containers) List(ctx context.Context, r *wire.ListContainersRequest) (*wire.ListContainersResponse, error) {
	all, err := s.Store.List(ctx, r.Filters...)
	return &wire.ListContainersResponse{Containers: protobuf.Each(all, protobuf.ToContainer)}, err
}

// ListStream sends the containers that match, one a message.
func (s *Containers) ListStream(r *wire.ListContainersRequest, out wire.Containers_ListStreamServer) error {
	all, err := s.Store.List(out.Context(), r.Filters...)
	for _, c := range all {
		if err := out.Send(&wire.ListContainerMessage{Container: protobuf.ToContainer(c)}); err != nil {
			return err
		}
	}
	return err
}

// Create adds a container.
func (s *Containers) Create(ctx context.Context, r *wire.CreateContainerRequest) (*wire.CreateContainerResponse, error) {
	c, err := s.Store.Create(ctx, protobuf.FromContainer(r.Container))
	return &wire.CreateContainerResponse{Container: protobuf.ToContainer(c)}, err
}

// Update changes a container.
func (s *Containers) Update(ctx context.Context, r *wire.UpdateContainerRequest) (*wire.UpdateContainerResponse, error) {
	c, err := s.Store.Update(ctx, protobuf.FromContainer(r.Container), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateContainerResponse{Container: protobuf.ToContainer(c)}, err
}

// Delete removes a container.
func (s *Containers) Delete(ctx context.Context, r *wire.DeleteContainerRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Store.Delete(ctx, r.ID)
}
