package builtin

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/graph"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/snapshotters"
	subvolumes "github.com/orlop/orlop/snapshotters/btrfs"
	erofsimg "github.com/orlop/orlop/snapshotters/erofs"
	nativefs "github.com/orlop/orlop/snapshotters/native"
	overlay "github.com/orlop/orlop/snapshotters/overlayfs"
)

func overlayfs(r *plugins.Registry) {
	plugins.Provide(r, kinds.Snapshotter, "overlayfs", func(s *plugins.Scope) plugins.Build[snapshotters.Driver] {
		cfg := plugins.Config(s, overlay.Config{})
		root := describe(s)
		return func(context.Context) (snapshotters.Driver, error) { return overlay.Open(root, *cfg) }
	})
}

func erofs(r *plugins.Registry) {
	plugins.Provide(r, kinds.Snapshotter, "erofs", func(s *plugins.Scope) plugins.Build[snapshotters.Driver] {
		cfg := plugins.Config(s, erofsimg.Config{})
		root := describe(s)
		s.Capabilities("rebase")
		return func(context.Context) (snapshotters.Driver, error) {
			d, err := erofsimg.Open(root, *cfg)
			if errdefs.IsNotImplemented(err) {
				return nil, plugins.Skip(err.Error())
			}
			return d, err
		}
	})
}

func native(r *plugins.Registry) {
	plugins.Provide(r, kinds.Snapshotter, "native", func(s *plugins.Scope) plugins.Build[snapshotters.Driver] {
		root := describe(s)
		return func(context.Context) (snapshotters.Driver, error) { return nativefs.Open(root) }
	})
}

func btrfs(r *plugins.Registry) {
	plugins.Provide(r, kinds.Snapshotter, "btrfs", func(s *plugins.Scope) plugins.Build[snapshotters.Driver] {
		root := describe(s)
		return func(context.Context) (snapshotters.Driver, error) {
			d, err := subvolumes.Open(root)
			if errdefs.IsNotImplemented(err) {
				return nil, plugins.Skip(err.Error())
			}
			return d, err
		}
	})
}

// describe tells introspection what all snapshotters have in common.
func describe(s *plugins.Scope) (root string) {
	s.Export("root", s.Root())
	s.Platforms(hostPlatform())
	return s.Root()
}

func hostPlatform() graph.Platform {
	p := defaultPlatform()
	return graph.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}
