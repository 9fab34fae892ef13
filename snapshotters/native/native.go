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
type Driver struct{ disk.Trees }

var _ snapshotters.Driver = (*Driver)(nil)

// Open takes the folder root, which is made if missing, into use.
func Open(root string) (*Driver, error) {
	s, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	return &Driver{disk.Trees{Store: s, Name: "native"}}, nil
}

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
		return copyTree(ctx, d.Tree(s.Parents[0]), fs)
	})
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	return d.Show(s), nil
}
