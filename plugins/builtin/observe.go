package builtin

import (
	"context"
	"net"
	"path/filepath"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/observe"
	"github.com/orlop/orlop/shims/manager"
)

// observing adds what lets people look into the daemon.
func observing(r *plugins.Registry) {
	plugins.Provide(r, kinds.Metrics, "grpc-prometheus", func(s *plugins.Scope) plugins.Build[*observe.Metrics] {
		cfg := plugins.Config(s, observe.Config{})
		return func(context.Context) (*observe.Metrics, error) { return observe.New(*cfg), nil }
	})
	plugins.Provide(r, kinds.Tracing, "otlp", func(s *plugins.Scope) plugins.Build[*observe.Tracing] {
		cfg := plugins.Config(s, observe.TraceConfig{})
		if !cfg.Wanted() {
			s.Off("neither endpoint nor OTEL_EXPORTER_OTLP_ENDPOINT is set")
		}
		return func(ctx context.Context) (*observe.Tracing, error) {
			return observe.OpenTracing(ctx, *cfg, version.Release)
		}
	})
	taskMonitor(r)
	doorDebug(r)
	doorMetrics(r)
}

// monitorConfig says what is measured of tasks.
type monitorConfig struct {
	// NoPrometheus leaves tasks out of the figures.
	NoPrometheus bool `toml:"no_prometheus"`
}

// monitor counts events until it is closed.
type monitor struct{ cancel context.CancelFunc }

// Close ends the counting.
func (m *monitor) Close() { m.cancel() }

func taskMonitor(r *plugins.Registry) {
	plugins.Provide(r, kinds.Monitor, "cgroups", func(s *plugins.Scope) plugins.Build[kinds.TaskMonitor] {
		cfg := plugins.Config(s, monitorConfig{})
		m, db, bus := plugins.One(s, kinds.Runtime), plugins.One(s, kinds.Metadata), plugins.One(s, kinds.Events)
		figures := plugins.One(s, kinds.Metrics)
		if cfg.NoPrometheus {
			s.Off("no_prometheus is set")
		}
		return func(context.Context) (kinds.TaskMonitor, error) {
			ctx, cancel := context.WithCancel(context.Background())
			go figures().CountEvents(ctx, bus())
			return &monitor{cancel}, figures().Register(observe.NewTasks(lister(db(), m())))
		}
	})
}

// lister lists the tasks of all namespaces.
func lister(db *metadata.DB, m *manager.Manager) func(context.Context) ([]observe.Task, error) {
	return func(ctx context.Context) ([]observe.Task, error) {
		all, err := db.Namespaces().List(ctx)
		var out []observe.Task
		for _, ns := range all {
			ctx := namespaces.With(ctx, ns.Name)
			held, err := m.List(ctx)
			if err != nil {
				return nil, err
			}
			for _, sh := range held {
				out = append(out, observe.Task{Namespace: ns.Name, ID: sh.ID(), Stats: func(ctx context.Context) (typeurl.Any, error) {
					resp := &task.StatsResponse{}
					err := sh.Call(ctx, "Stats", &task.StatsRequest{ID: sh.ID()}, resp)
					return resp.GetStats(), err
				}})
			}
		}
		return out, err
	}
}

func doorDebug(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "debug", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, doorConfig{})
		figures := plugins.Optional(s, kinds.Metrics)
		if cfg.Address == "" {
			s.Off("it has no address")
		}
		s.Export("address", cfg.Address)
		return func(context.Context) (kinds.Server, error) {
			l, err := cfg.socket().Listen()
			if err != nil {
				return nil, err
			}
			m, _ := figures()
			return observe.Serve(l, observe.Debug(m)), nil
		}
	})
}

// metricsConfig is where figures are served.
type metricsConfig struct {
	// Address is a host and port, or the path of a unix socket; empty is nowhere.
	// Whoever reaches it can read the names of containers and what they use.
	Address string `toml:"address"`
}

func doorMetrics(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "metrics", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, metricsConfig{})
		figures := plugins.One(s, kinds.Metrics)
		if cfg.Address == "" {
			s.Off("it has no address")
		}
		s.Export("address", cfg.Address)
		return func(ctx context.Context) (kinds.Server, error) {
			var l net.Listener
			var err error
			if filepath.IsAbs(cfg.Address) {
				l, err = grpc.Socket{Path: cfg.Address}.Listen()
			} else {
				l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Address)
			}
			if err != nil {
				return nil, err
			}
			return observe.Serve(l, observe.Figures(figures())), nil
		}
	})
}
