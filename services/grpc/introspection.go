package grpc

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	wire "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/plugins/graph"
	"github.com/orlop/orlop/protobuf"
)

// Introspection serves the introspection service.
type Introspection struct {
	wire.UnimplementedIntrospectionServer
	UUID string
	// Graph waits until the daemon is complete.
	Graph func(context.Context) (graph.Graph, error)
	// Info asks a plugin about itself; NotImplemented if it has nothing to tell.
	Info func(ctx context.Context, kind, name string, options typeurl.Any) (typeurl.Any, error)
}

// Register implements Service.
func (s *Introspection) Register(r grpc.ServiceRegistrar) { wire.RegisterIntrospectionServer(r, s) }

// Plugins lists the daemon's parts.
func (s *Introspection) Plugins(ctx context.Context, r *wire.PluginsRequest) (*wire.PluginsResponse, error) {
	f, err := filter.Parse(r.Filters...)
	if err != nil {
		return nil, err
	}
	g, err := s.Graph(ctx)
	if err != nil {
		return nil, err
	}
	needs := needsOf(g)
	resp := &wire.PluginsResponse{}
	for _, n := range g.Nodes {
		if f.Match(pluginField(n)) {
			resp.Plugins = append(resp.Plugins, toPlugin(n, needs[n.ID]))
		}
	}
	return resp, nil
}

// PluginInfo tells of one plugin, with what it says of itself: a runtime asks its
// shim. Options are the plugin's to understand.
func (s *Introspection) PluginInfo(ctx context.Context, r *wire.PluginInfoRequest) (*wire.PluginInfoResponse, error) {
	g, err := s.Graph(ctx)
	if err != nil {
		return nil, err
	}
	n := g.Node(r.Type + "." + r.ID)
	if n == nil {
		return nil, fmt.Errorf("plugin %s.%s: %w", r.Type, r.ID, errdefs.ErrNotFound)
	}
	resp := &wire.PluginInfoResponse{Plugin: toPlugin(*n, needsOf(g)[n.ID])}
	extra, err := s.Info(ctx, r.Type, r.ID, protobuf.FromAny(r.Options))
	if errdefs.IsNotImplemented(err) && r.Options == nil {
		return resp, nil
	}
	resp.Extra = protobuf.ToAny(extra)
	return resp, err
}

// needsOf are the kinds that each plugin needs.
func needsOf(g graph.Graph) map[string][]string {
	needs := map[string][]string{}
	for _, e := range g.Edges {
		kind := e.To[:max(strings.LastIndex(e.To, "."), 0)]
		if kind != "" && !slices.Contains(needs[e.From], kind) {
			needs[e.From] = append(needs[e.From], kind)
		}
	}
	return needs
}

func pluginField(n graph.Node) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "type":
			return n.Kind, true
		case "id":
			return n.Name, true
		case "capabilities":
			for _, c := range n.Capabilities {
				if len(path) == 2 && c == path[1] {
					return "", true
				}
			}
		}
		return "", false
	}
}

func toPlugin(n graph.Node, needs []string) *wire.Plugin {
	p := &wire.Plugin{Type: n.Kind, ID: n.Name, Requires: needs, Exports: n.Exports, Capabilities: n.Capabilities}
	for _, pl := range n.Platforms {
		p.Platforms = append(p.Platforms, &types.Platform{OS: pl.OS, Architecture: pl.Architecture, Variant: pl.Variant})
	}
	if n.Status != graph.OK && n.Status != graph.Starting {
		p.InitErr = &rpc.Status{Code: int32(code.Code_UNKNOWN), Message: n.Why}
		if p.InitErr.Message == "" {
			p.InitErr.Message = "skip plugin: " + string(n.Status)
		}
	}
	return p
}

// Server identifies the daemon.
func (s *Introspection) Server(context.Context, *emptypb.Empty) (*wire.ServerResponse, error) {
	resp := &wire.ServerResponse{UUID: s.UUID, Pid: uint64(os.Getpid())}
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/pid", &st); err == nil {
		resp.Pidns = st.Ino
	}
	return resp, nil
}
