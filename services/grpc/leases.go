package grpc

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	wire "github.com/containerd/containerd/api/services/leases/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/protobuf"
)

// Leases serves the leases service.
type Leases struct {
	wire.UnimplementedLeasesServer
	Manager lease.Manager
}

// Register implements Service.
func (s *Leases) Register(r grpc.ServiceRegistrar) { wire.RegisterLeasesServer(r, s) }

func toLease(l lease.Lease) *wire.Lease {
	return &wire.Lease{ID: l.ID, CreatedAt: protobuf.ToTime(l.Created), Labels: l.Labels}
}

func fromResource(r *wire.Resource) lease.Resource {
	return lease.Resource{ID: r.GetID(), Type: r.GetType()}
}

// Create adds a lease; an empty ID gets a generated one.
func (s *Leases) Create(ctx context.Context, r *wire.CreateRequest) (*wire.CreateResponse, error) {
	id := r.ID
	if id == "" {
		id = fmt.Sprintf("%d-%s", time.Now().Unix(), rand.Text()[:8])
	}
	l, err := s.Manager.Create(ctx, lease.Lease{ID: id, Labels: r.Labels})
	return &wire.CreateResponse{Lease: toLease(l)}, err
}

// Delete ends a lease.
func (s *Leases) Delete(ctx context.Context, r *wire.DeleteRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Manager.Delete(ctx, r.ID, r.Sync)
}

// List returns the leases that match.
func (s *Leases) List(ctx context.Context, r *wire.ListRequest) (*wire.ListResponse, error) {
	all, err := s.Manager.List(ctx, r.Filters...)
	return &wire.ListResponse{Leases: protobuf.Each(all, toLease)}, err
}

// AddResource makes a lease hold something.
func (s *Leases) AddResource(ctx context.Context, r *wire.AddResourceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Manager.AddResource(ctx, r.ID, fromResource(r.Resource))
}

// DeleteResource makes a lease let go of something.
func (s *Leases) DeleteResource(ctx context.Context, r *wire.DeleteResourceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Manager.DeleteResource(ctx, r.ID, fromResource(r.Resource))
}

// ListResources tells what a lease holds.
func (s *Leases) ListResources(ctx context.Context, r *wire.ListResourcesRequest) (*wire.ListResourcesResponse, error) {
	all, err := s.Manager.Resources(ctx, r.ID)
	return &wire.ListResourcesResponse{Resources: protobuf.Each(all, func(x lease.Resource) *wire.Resource {
		return &wire.Resource{ID: x.ID, Type: x.Type}
	})}, err
}
