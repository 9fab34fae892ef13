// Package overlayfs keeps snapshots as directories that overlayfs stacks.
//
// A snapshot is <root>/snapshots/<id>/fs, the upper directory while it is
// active and a lower one afterwards; work/ beside it exists while it is active.
// Layers are unpacked with overlayfs's own marks for deletions, so that they
// need no parents and the layers of an image can be unpacked side by side.
//
// The driver mounts nothing: it says how to. Its mounts are plain options that
// mount(2) takes as well. All methods are safe for concurrent use. Sync and
// Commit make durable with one syncfs; before it, a crash leaves directories
// that List shows and Remove takes.
package overlayfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/disk"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Config tunes the driver.
type Config struct {
	// Options are added to every overlay's mount options.
	Options []string
	// MaxLayerBytes bounds the file data of one unpacked layer; 0 is no bound.
	MaxLayerBytes int64
}

// Driver is the snapshotter driver.
type Driver struct {
	*disk.Store
	cfg   Config
	stack disk.Stack
}

var (
	_ snapshotters.Unpacker = (*Driver)(nil)
	_ snapshotters.Differ   = (*Driver)(nil)
)

// Open takes the folder root, which is made if missing, into use.
func Open(root string, cfg Config) (*Driver, error) {
	stack, err := disk.NewStack(cfg.Options)
	if err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	store, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	return &Driver{Store: store, cfg: cfg, stack: stack}, nil
}

func (d *Driver) fs(id string) string { return d.Path(id, "fs") }

// Create implements [snapshotters.Driver].
func (d *Driver) Create(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if err := d.stack.Create(d.Store, s); err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	return d.stack.Mounts(d.Store, s), nil
}

// Mounts implements [snapshotters.Driver].
func (d *Driver) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if _, err := os.Stat(d.Path(s.ID)); err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	if err := d.stack.Again(d.Store, s); err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	return d.stack.Mounts(d.Store, s), nil
}

// Commit implements [snapshotters.Driver].
func (d *Driver) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	u, err := disk.Usage(ctx, d.fs(s.ID))
	if err != nil {
		return u, fmt.Errorf("overlayfs: %w", err)
	}
	if err := os.RemoveAll(d.Path(s.ID, "work")); err != nil {
		return u, fmt.Errorf("overlayfs: %w", err)
	}
	return u, d.Store.Sync()
}

// Usage implements [snapshotters.Driver].
func (d *Driver) Usage(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	if s.Kind == snapshotters.KindView {
		return snapshotters.Usage{}, nil
	}
	return disk.Usage(ctx, d.fs(s.ID))
}

// Remove implements [snapshotters.Driver].
func (d *Driver) Remove(_ context.Context, id string) error { return d.Store.Remove(id) }

// List implements [snapshotters.Driver].
func (d *Driver) List(context.Context) ([]string, error) { return d.Store.List() }

// Unpack implements [snapshotters.Unpacker].
func (d *Driver) Unpack(ctx context.Context, id string, tar io.Reader, _ map[string]string) (snapshotters.Usage, error) {
	var stats layer.Stats
	err := d.Make(id, func(dir string) error {
		fs := filepath.Join(dir, "fs")
		if err := os.Mkdir(fs, 0o755); err != nil {
			return err
		}
		var err error
		stats, err = layer.Apply(ctx, fs, tar, layer.Options{
			Whiteouts: layer.Overlay, UserXattr: d.stack.UserXattr, AllowUnmapped: d.stack.UserXattr, MaxBytes: d.cfg.MaxLayerBytes,
		})
		return err
	})
	if err != nil {
		return snapshotters.Usage{}, fmt.Errorf("overlayfs: unpack: %w", err)
	}
	return snapshotters.Usage{Inodes: stats.Inodes + 1, Size: stats.Size + 4096}, nil
}

// Sync implements [snapshotters.Unpacker].
func (d *Driver) Sync(context.Context, []string) error { return d.Store.Sync() }

// Diff implements [snapshotters.Differ].
func (d *Driver) Diff(ctx context.Context, s snapshotters.Storage, w io.Writer) error {
	if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
		return layer.DiffNothing(w)
	}
	return layer.DiffUpper(ctx, d.fs(s.ID), w, layer.DiffOptions{})
}
