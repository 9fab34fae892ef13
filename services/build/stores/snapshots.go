package stores

import (
	"context"

	"github.com/containerd/containerd/v2/core/mount"
	ctd "github.com/containerd/containerd/v2/core/snapshots"

	own "github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
)

// Snapshots shows a snapshotter.
type Snapshots struct {
	Snapshotter snapshotters.Snapshotter
	// Writes, if it is set, remembers what can be written.
	Writes *Writes
}

var _ ctd.Snapshotter = Snapshots{}

func toMounts(list []own.Mount) []mount.Mount {
	out := make([]mount.Mount, len(list))
	for i, m := range list {
		out[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// FromMounts are BuildKit's mounts as ours.
func FromMounts(list []mount.Mount) []own.Mount {
	out := make([]own.Mount, len(list))
	for i, m := range list {
		out[i] = own.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// The kinds have the same order, but aren't the same.
var kinds = map[snapshotters.Kind]ctd.Kind{
	snapshotters.KindView: ctd.KindView, snapshotters.KindActive: ctd.KindActive, snapshotters.KindCommitted: ctd.KindCommitted,
}

func toSnapshot(i snapshotters.Info) ctd.Info {
	return ctd.Info{Kind: kinds[i.Kind], Name: i.Name, Parent: i.Parent, Labels: i.Labels, Created: i.Created, Updated: i.Updated}
}

// labels are what options set.
func labels(opts []ctd.Opt) (map[string]string, error) {
	var info ctd.Info
	for _, opt := range opts {
		if err := opt(&info); err != nil {
			return nil, err
		}
	}
	return info.Labels, nil
}

// Stat implements the snapshotter.
func (s Snapshots) Stat(ctx context.Context, key string) (ctd.Info, error) {
	i, err := s.Snapshotter.Stat(in(ctx), key)
	return toSnapshot(i), err
}

// Update implements the snapshotter.
func (s Snapshots) Update(ctx context.Context, info ctd.Info, fieldpaths ...string) (ctd.Info, error) {
	i, err := s.Snapshotter.Update(in(ctx), snapshotters.Info{Name: info.Name, Labels: info.Labels}, fieldpaths...)
	return toSnapshot(i), err
}

// Usage implements the snapshotter.
func (s Snapshots) Usage(ctx context.Context, key string) (ctd.Usage, error) {
	u, err := s.Snapshotter.Usage(in(ctx), key)
	return ctd.Usage{Inodes: u.Inodes, Size: u.Size}, err
}

// Mounts implements the snapshotter.
func (s Snapshots) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	list, err := s.Snapshotter.Mounts(in(ctx), key)
	s.Writes.note(key, list)
	return toMounts(list), err
}

// Prepare implements the snapshotter.
func (s Snapshots) Prepare(ctx context.Context, key, parent string, opts ...ctd.Opt) ([]mount.Mount, error) {
	set, err := labels(opts)
	if err != nil {
		return nil, err
	}
	list, err := s.Snapshotter.Prepare(in(ctx), key, parent, set)
	s.Writes.note(key, list)
	return toMounts(list), err
}

// View implements the snapshotter.
func (s Snapshots) View(ctx context.Context, key, parent string, opts ...ctd.Opt) ([]mount.Mount, error) {
	set, err := labels(opts)
	if err != nil {
		return nil, err
	}
	list, err := s.Snapshotter.View(in(ctx), key, parent, set)
	return toMounts(list), err
}

// Commit implements the snapshotter.
func (s Snapshots) Commit(ctx context.Context, name, key string, opts ...ctd.Opt) error {
	set, err := labels(opts)
	if err != nil {
		return err
	}
	err = s.Snapshotter.Commit(in(ctx), name, key, set)
	if err == nil {
		s.Writes.forget(key)
	}
	return err
}

// Remove implements the snapshotter.
func (s Snapshots) Remove(ctx context.Context, key string) error {
	err := s.Snapshotter.Remove(in(ctx), key)
	if err == nil {
		s.Writes.forget(key)
	}
	return err
}

// Walk implements the snapshotter.
func (s Snapshots) Walk(ctx context.Context, fn ctd.WalkFunc, filters ...string) error {
	return s.Snapshotter.Walk(in(ctx), func(ctx context.Context, i snapshotters.Info) error { return fn(ctx, toSnapshot(i)) }, filters...)
}

// Close does nothing: the snapshotter is the daemon's.
func (s Snapshots) Close() error { return nil }
