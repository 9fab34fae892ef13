package builtin

import (
	"bytes"
	"context"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/collect"
	"github.com/orlop/orlop/services/fsck"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/remote"
)

// admin adds Orlop's own services about the daemon itself.
func admin(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Own, "admin", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db := plugins.One(s, kinds.Metadata)
		blobs := plugins.One(s, kinds.Content)
		drivers := plugins.All(s, kinds.Snapshotter)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Admin{
				Collect: func(ctx context.Context, dry bool) (collect.Result, error) { return collect.Now(ctx, db(), dry) },
				Checker: &fsck.Checker{DB: db(), Blobs: blobs(), Drivers: drivers(), Fetch: fetcher()},
			}, nil
		}
	})
	plugins.Provide(r, kinds.Own, "plugins", func(*plugins.Scope) plugins.Build[grpc.Service] {
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Plugins{Graphs: d.Graph, Configs: d.pluginConfig, Reloads: d.pluginReload}, nil
		}
	})
}

func (d *Daemon) pluginConfig(comments bool) (grpc.PluginConfig, error) {
	toml, files, warnings, err := d.Config(comments)
	return grpc.PluginConfig{TOML: toml, Files: files, Warnings: warnings}, err
}

func (d *Daemon) pluginReload(ctx context.Context) ([]grpc.PluginChange, []string, error) {
	changes, warnings, err := d.Reload(ctx)
	var out []grpc.PluginChange
	for _, c := range changes {
		out = append(out, grpc.PluginChange{ID: c.ID, Keys: c.Keys, Applied: c.Applied, Restart: c.Restart, Err: c.Err})
	}
	return out, warnings, err
}

// fetcher brings damaged blobs back, without a login. A registry keeps manifests
// apart from blobs, so that is where the second look goes.
func fetcher() fsck.Fetch {
	client := remote.New(remote.Config{UserAgent: "orlopd/" + version.Release})
	return func(ctx context.Context, host, repository string, desc ocispec.Descriptor) (io.ReadCloser, error) {
		ref := remote.Reference{Host: host, Repository: repository, Digest: desc.Digest}
		body, err := client.Blob(ctx, ref, desc, 0)
		if !errdefs.IsNotFound(err) {
			return body, err
		}
		manifest, err := client.Manifest(ctx, ref, desc)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(manifest)), nil
	}
}
