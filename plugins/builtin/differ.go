package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/diff"
	"github.com/orlop/orlop/services/grpc"
)

func walking(r *plugins.Registry) {
	plugins.Provide(r, kinds.Differ, "walking", func(s *plugins.Scope) plugins.Build[grpc.Differ] {
		db := plugins.One(s, kinds.Metadata)
		s.Platforms(hostPlatform())
		return func(context.Context) (grpc.Differ, error) { return &diff.Walking{Store: db().Content()}, nil }
	})
}
