package builtin

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/snapshotters"
)

// services adds the services that are a thin edge over the database.
func services(r *plugins.Registry) {
	overDB := func(name string, make func(db *metadata.DB) grpc.Service) {
		plugins.Provide(r, kinds.Service, name, func(s *plugins.Scope) plugins.Build[grpc.Service] {
			db := plugins.One(s, kinds.Metadata)
			return func(context.Context) (grpc.Service, error) { return make(db()), nil }
		})
	}
	overDB("namespaces", func(db *metadata.DB) grpc.Service { return &grpc.Namespaces{Store: db.Namespaces()} })
	overDB("images", func(db *metadata.DB) grpc.Service { return &grpc.Images{Store: db.Images()} })
	overDB("containers", func(db *metadata.DB) grpc.Service { return &grpc.Containers{Store: db.Containers()} })
	overDB("leases", func(db *metadata.DB) grpc.Service { return &grpc.Leases{Manager: db.Leases()} })
	overDB("content", func(db *metadata.DB) grpc.Service { return &grpc.Content{Store: db.Content()} })
	snapshots(r)
	plugins.Provide(r, kinds.Service, "events", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		bus := plugins.One(s, kinds.Events)
		return func(context.Context) (grpc.Service, error) { return &grpc.Events{Bus: bus()}, nil }
	})
	differs(r)
	sandboxes(r)
	plugins.Provide(r, kinds.Service, "version", func(*plugins.Scope) plugins.Build[grpc.Service] {
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Version{Release: version.Release, Revision: version.Revision()}, nil
		}
	})
}

func snapshots(r *plugins.Registry) {
	plugins.Provide(r, kinds.Service, "snapshots", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db := plugins.One(s, kinds.Metadata)
		drivers := plugins.All(s, kinds.Snapshotter)
		chosen := s.Settings().Defaults[kinds.Snapshotter.Name()]
		return func(context.Context) (grpc.Service, error) {
			fallback := defaultSnapshotter(chosen, drivers())
			return &grpc.Snapshots{Find: func(name string) (snapshotters.Snapshotter, error) {
				if name == "" {
					name = fallback
				}
				if name == "" {
					return nil, fmt.Errorf("no snapshotter works on this host: %w", errdefs.ErrUnavailable)
				}
				return db().Snapshotter(name)
			}}, nil
		}
	})
}

// defaultSnapshotter is what the config chose, else the best that works.
func defaultSnapshotter(chosen string, have map[string]snapshotters.Driver) string {
	for _, name := range []string{chosen, "erofs", "overlayfs", "native"} {
		if _, ok := have[name]; ok {
			return name
		}
	}
	return ""
}
