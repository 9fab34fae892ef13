package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/volume"
	"github.com/orlop/orlop/services/volume/local"
)

// volumes adds the service of volumes with its one driver.
func volumes(r *plugins.Registry) {
	plugins.Provide(r, kinds.Volumes, "local", func(s *plugins.Scope) plugins.Build[*volume.Service] {
		db := plugins.One(s, kinds.Metadata)
		root := s.Root()
		s.Export("root", root)
		return func(ctx context.Context) (*volume.Service, error) {
			d, err := local.Open(root)
			if err != nil {
				return nil, err
			}
			return volume.Open(ctx, db().Volumes(), map[string]volume.Driver{"local": d})
		}
	})
	plugins.Provide(r, kinds.Own, "volumes", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		kept := plugins.One(s, kinds.Volumes)
		return func(context.Context) (grpc.Service, error) { return &grpc.Volumes{Service: kept()}, nil }
	})
}
