package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
)

// networkAPI adds Orlop's own service of networks.
func networkAPI(r *plugins.Registry) {
	plugins.Provide(r, kinds.Own, "networks", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		nets, e := plugins.One(s, kinds.Networks), plugins.One(s, kinds.Engine)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Networks{Service: nets(), Join: e()}, nil
		}
	})
}
