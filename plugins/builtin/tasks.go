package builtin

import (
	"context"
	"os"
	"path/filepath"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/shims/manager"
)

func tasks(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Runtime, "task", func(s *plugins.Scope) plugins.Build[*manager.Manager] {
		s.Required()
		cfg := plugins.Config(s, manager.DefaultConfig())
		bus := plugins.One(s, kinds.Events)
		state, sockets := s.State(), filepath.Join(s.Settings().State, "s")
		address := d.grpcAddress(s)
		s.Platforms(hostPlatform())
		return func(ctx context.Context) (*manager.Manager, error) {
			return manager.Open(ctx, *cfg, manager.Where{State: state, Sockets: sockets, Address: address}, bus())
		}
	})
	plugins.Provide(r, kinds.Service, "tasks", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db := plugins.One(s, kinds.Metadata)
		m := plugins.One(s, kinds.Runtime)
		dir := filepath.Join(s.Root(), "checkpoints")
		return func(context.Context) (grpc.Service, error) {
			// What is there was on its way when an earlier daemon ended.
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			return &grpc.Tasks{Containers: db().Containers(), Manager: m(), Checkpoints: grpc.Checkpoints{Content: db().Content(), Dir: dir}}, nil
		}
	})
}
