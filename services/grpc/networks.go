package grpc

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	wire "github.com/orlop/orlop/api/orlop/network/v1"
	networks "github.com/orlop/orlop/services/network"
)

// Joiner connects containers.
type Joiner interface {
	// JoinNetwork connects a container, with more names for others to call it by.
	JoinNetwork(ctx context.Context, container, network string, aliases []string) error
	// Disconnect undoes it.
	Disconnect(ctx context.Context, container, network string, force bool) error
}

// Networks serves Orlop's own service of networks.
type Networks struct {
	wire.UnimplementedNetworksServer
	Service *networks.Service
	Join    Joiner
}

// Register implements Service.
func (s *Networks) Register(r grpc.ServiceRegistrar) { wire.RegisterNetworksServer(r, s) }

// List returns all networks.
func (s *Networks) List(context.Context, *wire.ListRequest) (*wire.ListResponse, error) {
	resp := &wire.ListResponse{}
	for _, r := range s.Service.List() {
		resp.Networks = append(resp.Networks, toNetwork(r))
	}
	return resp, nil
}

func toNetwork(r networks.Record) *wire.Network {
	out := &wire.Network{Id: r.ID, Name: r.Name, Driver: r.Driver, CreatedAt: timestamppb.New(r.Created), Internal: r.Internal,
		Ipv4: r.IPv4, Ipv6: r.IPv6, Options: r.Given, Labels: r.Labels, Predefined: r.Predefined}
	for _, p := range r.Pools {
		x := &wire.Pool{Subnet: p.Subnet.String(), Aux: map[string]string{}}
		if p.Range.IsValid() {
			x.Range = p.Range.String()
		}
		if p.Gateway.IsValid() {
			x.Gateway = p.Gateway.String()
		}
		for name, a := range p.Aux {
			x.Aux[name] = a.String()
		}
		out.Pools = append(out.Pools, x)
	}
	return out
}

// Get returns one network.
func (s *Networks) Get(_ context.Context, q *wire.GetRequest) (*wire.GetResponse, error) {
	r, err := s.Service.Find(q.Ref)
	if err != nil {
		return nil, err
	}
	resp := &wire.GetResponse{Network: toNetwork(r)}
	connected := s.Service.Connected(r.ID)
	for _, id := range slices.Sorted(maps.Keys(connected)) {
		e := connected[id]
		x := &wire.Endpoint{Id: e.ID, Container: id, Mac: e.MAC.String(), Names: e.Names}
		if b, ok := s.Service.Sandbox(id); ok {
			x.Name = b.Name
		}
		for _, a := range e.Addresses {
			x.Addresses = append(x.Addresses, a.String())
		}
		resp.Endpoints = append(resp.Endpoints, x)
	}
	return resp, nil
}

// Create makes a network.
func (s *Networks) Create(ctx context.Context, q *wire.CreateRequest) (*wire.CreateResponse, error) {
	v4 := !q.NoIpv4
	o := networks.Creation{Name: q.Name, Driver: q.Driver, IPv4: &v4, IPv6: &q.Ipv6, Internal: q.Internal, Options: q.Options, Labels: q.Labels}
	for _, p := range q.Pools {
		x, err := fromPool(p)
		if err != nil {
			return nil, err
		}
		o.Pools = append(o.Pools, x)
	}
	r, err := s.Service.Create(ctx, o)
	if err != nil {
		return nil, err
	}
	return &wire.CreateResponse{Network: toNetwork(r)}, nil
}

func fromPool(p *wire.Pool) (networks.Pool, error) {
	out := networks.Pool{Aux: map[string]netip.Addr{}}
	var err error
	if out.Subnet, err = netip.ParsePrefix(p.Subnet); err == nil && p.Range != "" {
		out.Range, err = netip.ParsePrefix(p.Range)
	}
	if err == nil && p.Gateway != "" {
		out.Gateway, err = netip.ParseAddr(p.Gateway)
	}
	for name, a := range p.Aux {
		if err == nil {
			out.Aux[name], err = netip.ParseAddr(a)
		}
	}
	if err != nil {
		return out, fmt.Errorf("subnet %q: %w: %w", p.Subnet, err, errdefs.ErrInvalidArgument)
	}
	return out, nil
}

// Delete removes a network.
func (s *Networks) Delete(ctx context.Context, q *wire.DeleteRequest) (*wire.DeleteResponse, error) {
	return &wire.DeleteResponse{}, s.Service.Remove(ctx, q.Ref)
}

// Connect connects a container.
func (s *Networks) Connect(ctx context.Context, q *wire.ConnectRequest) (*wire.ConnectResponse, error) {
	return &wire.ConnectResponse{}, s.Join.JoinNetwork(ctx, q.Container, q.Network, q.Aliases)
}

// Disconnect disconnects a container.
func (s *Networks) Disconnect(ctx context.Context, q *wire.DisconnectRequest) (*wire.DisconnectResponse, error) {
	return &wire.DisconnectResponse{}, s.Join.Disconnect(ctx, q.Container, q.Network, q.Force)
}
