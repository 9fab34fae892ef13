package builtin

import (
	"context"

	"github.com/orlop/orlop/core/sandbox"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/shims/manager"
)

// sandboxes adds their store, their controller over shims, and the services.
func sandboxes(r *plugins.Registry) {
	plugins.Provide(r, kinds.SandboxController, "shim", func(s *plugins.Scope) plugins.Build[sandbox.Controller] {
		m := plugins.One(s, kinds.Runtime)
		state := s.State()
		s.Platforms(hostPlatform())
		return func(ctx context.Context) (sandbox.Controller, error) { return manager.OpenSandboxes(ctx, m(), state) }
	})
	plugins.Provide(r, kinds.Service, "sandboxes", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db := plugins.One(s, kinds.Metadata)
		return func(context.Context) (grpc.Service, error) { return &grpc.SandboxStore{Store: db().Sandboxes()}, nil }
	})
	plugins.Provide(r, kinds.Service, "sandbox-controllers", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		all := plugins.All(s, kinds.SandboxController)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Sandboxes{Controllers: all(), Default: "shim"}, nil
		}
	})
}
