package builtin

import (
	"context"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/snapshotters"
)

func unpacker(r *plugins.Registry) {
	plugins.Provide(r, kinds.Unpacker, "local", func(s *plugins.Scope) plugins.Build[*unpack.Unpacker] {
		cfg := plugins.Config(s, unpack.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		differ := plugins.One(s, kinds.Differ)
		drivers := plugins.All(s, kinds.Snapshotter)
		chosen := s.Settings().Defaults[kinds.Snapshotter.Name()]
		return func(context.Context) (*unpack.Unpacker, error) {
			return unpack.New(*cfg, unpack.Stores{
				Content: db().Content(), Leases: db().Leases(), Layers: db().Layers, Snapshots: db().Snapshotter,
				Applier: differ(), Default: clientsDefault(db(), chosen, drivers()),
			}), nil
		}
	})
}

// defaultLabel is the namespace's label by which containerd's clients choose a
// snapshotter.
const defaultLabel = "containerd.io/defaults/snapshotter"

// clientsDefault finds the snapshotter that a client will look in that names none:
// the namespace's, else the configured one, else overlayfs, which is fixed in
// containerd's clients; unpacking elsewhere would have them unpack again.
func clientsDefault(db *metadata.DB, chosen string, have map[string]snapshotters.Driver) func(context.Context) string {
	if chosen == "" {
		chosen = "overlayfs"
	}
	fallback := defaultSnapshotter(chosen, have)
	return func(ctx context.Context) string {
		ns, _ := namespaces.From(ctx)
		info, err := db.Namespaces().Get(ctx, ns)
		if name := info.Labels[defaultLabel]; err == nil && name != "" {
			return name
		}
		return fallback
	}
}

func puller(r *plugins.Registry) {
	plugins.Provide(r, kinds.Puller, "local", func(s *plugins.Scope) plugins.Build[*pull.Puller] {
		cfg := plugins.Config(s, pull.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		unpacker, figures := plugins.One(s, kinds.Unpacker), plugins.Optional(s, kinds.Metrics)
		return func(context.Context) (*pull.Puller, error) {
			p := pull.New(*cfg, pull.Stores{Content: db().Content(), Leases: db().Leases(), Unpack: unpacker()})
			if m, ok := figures(); ok {
				p.OnDone(m.Pulled)
			}
			return p, nil
		}
	})
}
