package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
)

func introspection(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Service, "introspection", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db := plugins.One(s, kinds.Metadata)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Introspection{UUID: db().UUID(), Graph: d.Graph}, nil
		}
	})
}
