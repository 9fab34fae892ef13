package builtin

import (
	"context"

	port "github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
)

func content(r *plugins.Registry) {
	plugins.Provide(r, kinds.Content, "content", func(s *plugins.Scope) plugins.Build[port.Store] {
		s.Required()
		root := s.Root()
		s.Export("root", root)
		return func(context.Context) (port.Store, error) { return local.Open(root) }
	})
}
