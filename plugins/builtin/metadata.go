package builtin

import (
	"context"
	"path/filepath"

	"github.com/containerd/log"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/collect"
)

func defaultPlatform() ocispec.Platform { return platforms.DefaultSpec() }

func bolt(r *plugins.Registry) {
	plugins.Provide(r, kinds.Metadata, "bolt", func(s *plugins.Scope) plugins.Build[*metadata.DB] {
		s.Required()
		cfg := plugins.Config(s, metadata.DefaultConfig())
		blobs := plugins.One(s, kinds.Content)
		drivers := plugins.All(s, kinds.Snapshotter)
		bus := plugins.One(s, kinds.Events)
		path := filepath.Join(s.Root(), "meta.db")
		s.Export("root", path)
		return func(ctx context.Context) (*metadata.DB, error) {
			db, err := metadata.Open(path, *cfg, metadata.Backends{Content: blobs(), Drivers: drivers(), Events: bus()})
			if err != nil {
				return nil, err
			}
			found, err := db.Reconcile(ctx)
			if err != nil {
				log.G(ctx).WithError(err).Warn("some leftovers of a crash could not be removed; they are tried again at the next start")
			}
			if len(found) > 0 {
				log.G(ctx).WithField("count", len(found)).Info("removed leftovers of an interrupted run")
			}
			return db, nil
		}
	})
}

func scheduler(r *plugins.Registry) {
	plugins.Provide(r, kinds.Collector, "scheduler", func(s *plugins.Scope) plugins.Build[*collect.Scheduler] {
		cfg := plugins.Config(s, collect.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		var running *collect.Scheduler
		plugins.Live(s, cfg, func(_ context.Context, next *collect.Config) error {
			running.Configure(*next)
			return nil
		})
		return func(context.Context) (*collect.Scheduler, error) {
			running = collect.Start(*cfg, db())
			db().OnChange(running.Changed)
			return running, nil
		}
	})
}
