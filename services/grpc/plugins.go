package grpc

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	wire "github.com/orlop/orlop/api/orlop/plugins/v1"
	"github.com/orlop/orlop/plugins/graph"
	"github.com/orlop/orlop/protobuf"
)

// PluginConfig is the config in force.
type PluginConfig struct {
	TOML            string
	Files, Warnings []string
}

// PluginChange is what a reload did about one plugin, or about the daemon's own
// settings (ID "").
type PluginChange struct {
	ID               string
	Keys             []string
	Applied, Restart bool
	Err              error
}

// Plugins serves Orlop's own plugins service.
type Plugins struct {
	wire.UnimplementedPluginsServer
	Graphs  func(context.Context) (graph.Graph, error)
	Configs func(comments bool) (PluginConfig, error)
	Reloads func(ctx context.Context) ([]PluginChange, []string, error)
}

// Register implements Service.
func (s *Plugins) Register(r grpc.ServiceRegistrar) { wire.RegisterPluginsServer(r, s) }

// Graph tells what is wired to what.
func (s *Plugins) Graph(ctx context.Context, _ *wire.GraphRequest) (*wire.GraphResponse, error) {
	g, err := s.Graphs(ctx)
	if err != nil {
		return nil, err
	}
	return &wire.GraphResponse{Nodes: protobuf.Each(g.Nodes, toNode), Edges: protobuf.Each(g.Edges, toEdge)}, nil
}

func toNode(n graph.Node) *wire.Node {
	return &wire.Node{
		Id: n.ID, Kind: n.Kind, Name: n.Name, Doc: n.Doc, GoType: n.Type, Why: n.Why,
		Status:   wire.Status(wire.Status_value["STATUS_"+strings.ToUpper(string(n.Status))]),
		Required: n.Required, Proxy: n.Proxy, Live: n.Live, Took: durationpb.New(n.Took), Capabilities: n.Capabilities, Exports: n.Exports,
		Platforms: protobuf.Each(n.Platforms, func(p graph.Platform) *wire.Platform {
			return &wire.Platform{Os: p.OS, Architecture: p.Architecture, Variant: p.Variant}
		}),
	}
}

func toEdge(e graph.Edge) *wire.Edge {
	return &wire.Edge{From: e.From, To: e.To, Need: wire.Need(wire.Need_value["NEED_"+strings.ToUpper(e.Need)]), Used: e.Used}
}

// Config prints the config in force.
func (s *Plugins) Config(_ context.Context, r *wire.ConfigRequest) (*wire.ConfigResponse, error) {
	c, err := s.Configs(r.Comments)
	return &wire.ConfigResponse{Toml: c.TOML, Files: c.Files, Warnings: c.Warnings}, err
}

// Reload reads the config again.
func (s *Plugins) Reload(ctx context.Context, _ *wire.ReloadRequest) (*wire.ReloadResponse, error) {
	changes, warnings, err := s.Reloads(ctx)
	return &wire.ReloadResponse{Changes: protobuf.Each(changes, toChange), Warnings: warnings}, err
}

func toChange(c PluginChange) *wire.Change {
	w := &wire.Change{Id: c.ID, Keys: c.Keys, Applied: c.Applied, RestartNeeded: c.Restart}
	if c.Err != nil {
		w.Error = c.Err.Error()
	}
	return w
}
