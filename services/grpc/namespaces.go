package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/namespaces/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/protobuf"
)

// Namespaces serves the namespaces service.
type Namespaces struct {
	wire.UnimplementedNamespacesServer
	Store namespaces.Store
}

// Register implements Service.
func (s *Namespaces) Register(r grpc.ServiceRegistrar) { wire.RegisterNamespacesServer(r, s) }

func toNamespace(n namespaces.Info) *wire.Namespace {
	return &wire.Namespace{Name: n.Name, Labels: n.Labels}
}

func fromNamespace(n *wire.Namespace) namespaces.Info {
	return namespaces.Info{Name: n.GetName(), Labels: n.GetLabels()}
}

// Get returns one namespace.
func (s *Namespaces) Get(ctx context.Context, r *wire.GetNamespaceRequest) (*wire.GetNamespaceResponse, error) {
	n, err := s.Store.Get(ctx, r.Name)
	return &wire.GetNamespaceResponse{Namespace: toNamespace(n)}, err
}

// List returns all namespaces.
func (s *Namespaces) List(ctx context.Context, _ *wire.ListNamespacesRequest) (*wire.ListNamespacesResponse, error) {
	all, err := s.Store.List(ctx)
	return &wire.ListNamespacesResponse{Namespaces: protobuf.Each(all, toNamespace)}, err
}

// Create adds a namespace.
func (s *Namespaces) Create(ctx context.Context, r *wire.CreateNamespaceRequest) (*wire.CreateNamespaceResponse, error) {
	n := fromNamespace(r.Namespace)
	return &wire.CreateNamespaceResponse{Namespace: toNamespace(n)}, s.Store.Create(ctx, n)
}

// Update changes labels.
func (s *Namespaces) Update(ctx context.Context, r *wire.UpdateNamespaceRequest) (*wire.UpdateNamespaceResponse, error) {
	n, err := s.Store.Update(ctx, fromNamespace(r.Namespace), protobuf.Paths(r.UpdateMask)...)
	return &wire.UpdateNamespaceResponse{Namespace: toNamespace(n)}, err
}

// Delete removes an empty namespace.
func (s *Namespaces) Delete(ctx context.Context, r *wire.DeleteNamespaceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Store.Delete(ctx, r.Name)
}
