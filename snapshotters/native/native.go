// Package native keeps every snapshot as a complete tree, for hosts without
// overlayfs: Create copies the parent's tree, sharing file data where the file
// system can (FICLONE on btrfs and XFS).
//
// Layout, crash behaviour and concurrency are those of package disk. Layers
// can't be unpacked without their parents, so it is no Unpacker.
package native

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/disk"
)

// Driver is the snapshotter driver.
type Driver struct{ *disk.Store }

var _ snapshotters.Driver = (*Driver)(nil)

// Open takes the folder root, which is made if missing, into use.
func Open(root string) (*Driver, error) {
	s, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	return &Driver{s}, nil
}

func (d *Driver) fs(id string) string { return d.Path(id, "fs") }

// Create implements [snapshotters.Driver].
func (d *Driver) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if err := s.Refuse("native"); err != nil {
		return nil, err
	}
	err := d.Make(s.ID, func(dir string) error {
		fs := filepath.Join(dir, "fs")
		if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
			return nil
		}
		if err := os.Mkdir(fs, 0o755); err != nil || len(s.Parents) == 0 {
			return err
		}
		return copyTree(ctx, d.fs(s.Parents[0]), fs)
	})
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	return d.mounts(s), nil
}

// Mounts implements [snapshotters.Driver].
func (d *Driver) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if _, err := os.Stat(d.Path(s.ID)); err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	return d.mounts(s), nil
}

func (d *Driver) mounts(s snapshotters.Storage) []mount.Mount {
	dir, mode := d.fs(s.ID), "rw"
	if s.Kind == snapshotters.KindView {
		mode = "ro"
		if len(s.Parents) > 0 {
			dir = d.fs(s.Parents[0])
		}
	}
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{mode, "rbind"}}}
}

// Commit implements [snapshotters.Driver].
func (d *Driver) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	u, err := disk.Usage(ctx, d.fs(s.ID))
	if err != nil {
		return u, fmt.Errorf("native: %w", err)
	}
	return u, d.Sync()
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
