package disk

import (
	"context"
	"fmt"
	"os"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
)

// Trees is what drivers share that keep each snapshot as a tree that is whole by itself, in
// <id>/fs. A view of a parent has none: the parent itself is shown.
type Trees struct {
	*Store
	// Name of the driver begins its errors.
	Name string
}

// Tree is the folder of a snapshot's tree.
func (d Trees) Tree(id string) string { return d.Path(id, "fs") }

// Show mounts a snapshot that is there.
func (d Trees) Show(s snapshotters.Storage) []mount.Mount {
	if s.Kind != snapshotters.KindView {
		return bind(d.Tree(s.ID), "rw")
	}
	if len(s.Parents) > 0 {
		return bind(d.Tree(s.Parents[0]), "ro")
	}
	return bind(d.Tree(s.ID), "ro")
}

// Mounts implements [snapshotters.Driver].
func (d Trees) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if _, err := os.Stat(d.Path(s.ID)); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	return d.Show(s), nil
}

// Commit implements [snapshotters.Driver]. The usage counts data shared with the parent,
// too: file systems that share them don't tell which.
func (d Trees) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	u, err := Usage(ctx, d.Tree(s.ID))
	if err != nil {
		return u, fmt.Errorf("%s: %w", d.Name, err)
	}
	return u, d.Sync()
}

// Usage implements [snapshotters.Driver].
func (d Trees) Usage(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	if s.Kind == snapshotters.KindView {
		return snapshotters.Usage{}, nil
	}
	return Usage(ctx, d.Tree(s.ID))
}

// Remove implements [snapshotters.Driver].
func (d Trees) Remove(_ context.Context, id string) error { return d.Store.Remove(id) }

// List implements [snapshotters.Driver].
func (d Trees) List(context.Context) ([]string, error) { return d.Store.List() }
