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
		cfg := plugins.Config(s, diff.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		s.Platforms(hostPlatform())
		return func(context.Context) (grpc.Differ, error) {
			return &diff.Walking{Store: db().Content(), Config: *cfg}, nil
		}
	})
}

// diffConfig chooses among differs.
type diffConfig struct {
	// Default are the differs to try, in order: one that doesn't know a media type
	// gives way to the next. Empty is the preferred one alone.
	Default []string `toml:"default"`
}

// differs adds the service. A configured one that isn't there keeps it from
// starting.
func differs(r *plugins.Registry) {
	plugins.Provide(r, kinds.Service, "diff", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		cfg := plugins.Config(s, diffConfig{})
		var refs []plugins.Ref[grpc.Differ]
		for _, name := range cfg.Default {
			refs = append(refs, plugins.Named(s, kinds.Differ, name))
		}
		if len(refs) == 0 {
			refs = append(refs, plugins.One(s, kinds.Differ))
		}
		return func(context.Context) (grpc.Service, error) {
			svc := &grpc.Diff{}
			for _, ref := range refs {
				svc.Differs = append(svc.Differs, ref())
			}
			return svc, nil
		}
	})
}
