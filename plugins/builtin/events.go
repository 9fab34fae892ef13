package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	bus "github.com/orlop/orlop/services/events"
)

func events(r *plugins.Registry) {
	plugins.Provide(r, kinds.Events, "exchange", func(s *plugins.Scope) plugins.Build[*bus.Exchange] {
		s.Required()
		return func(context.Context) (*bus.Exchange, error) { return &bus.Exchange{}, nil }
	})
}
