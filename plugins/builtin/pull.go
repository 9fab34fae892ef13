package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/pull"
)

func puller(r *plugins.Registry) {
	plugins.Provide(r, kinds.Puller, "local", func(s *plugins.Scope) plugins.Build[*pull.Puller] {
		cfg := plugins.Config(s, pull.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		return func(context.Context) (*pull.Puller, error) {
			return pull.New(*cfg, pull.Stores{Content: db().Content(), Images: db().Images(), Leases: db().Leases(), Layers: db().Layers}), nil
		}
	})
}
