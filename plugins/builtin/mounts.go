package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/activate"
	"github.com/orlop/orlop/services/grpc"
)

// activation adds the mount manager and its service.
func activation(r *plugins.Registry) {
	plugins.Provide(r, kinds.MountManager, "bolt", func(s *plugins.Scope) plugins.Build[*activate.Manager] {
		db := plugins.One(s, kinds.Metadata)
		state := s.State()
		return func(ctx context.Context) (*activate.Manager, error) {
			m, err := activate.Open(ctx, db().Mounts(), state, db().Namespaces())
			if err == nil {
				db().OnUnmount(m.Release)
			}
			return m, err
		}
	})
	plugins.Provide(r, kinds.Service, "mounts", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		m := plugins.One(s, kinds.MountManager)
		return func(context.Context) (grpc.Service, error) { return &grpc.Mounts{Manager: m()}, nil }
	})
}
