package fsck

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/snapshotters"
)

// namedSnapshots checks that each driver has the bytes of what is named.
func (r *run) namedSnapshots() error {
	for _, name := range sorted(r.inv.Snapshots) {
		have := map[string]bool{}
		for _, id := range r.ids[name] {
			have[id] = true
		}
		for _, s := range r.inv.Snapshots[name] {
			if err := r.looked(0); err != nil {
				return err
			}
			if have[s.ID] || !r.gone(name, s) {
				continue
			}
			f := Finding{Severity: Damage, Code: "snapshot-missing", Namespace: s.Namespace, Kind: "snapshot", ID: name + "/" + s.Info.Name,
				Message: fmt.Sprintf("the %s snapshot has a name, but the driver has no bytes of ID %s", s.Info.Kind, s.ID)}
			if err := r.found(f, func() error { return r.mendSnapshot(name, s) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone looks again at a snapshot that was made while the drivers were listed.
func (r *run) gone(name string, s metadata.NamedSnapshot) bool {
	ids, err := r.Drivers[name].List(r.ctx)
	if err != nil || slices.Contains(ids, s.ID) {
		return false
	}
	ss, err := r.DB.Snapshotter(name)
	if err != nil {
		return false
	}
	_, err = ss.Stat(namespaces.With(r.ctx, s.Namespace), s.Info.Name)
	return err == nil
}

// mendSnapshot removes a snapshot without bytes with all that stand on it, so
// that the image can be unpacked again. With a container's among them nothing is
// removed: it may hold what exists nowhere else.
func (r *run) mendSnapshot(name string, s metadata.NamedSnapshot) error {
	ss, err := r.DB.Snapshotter(name)
	if err != nil {
		return err
	}
	ctx := namespaces.With(r.ctx, s.Namespace)
	var doomed []string
	var used error
	var visit func(key string)
	visit = func(key string) {
		for _, c := range r.inv.Snapshots[name] {
			if c.Namespace == s.Namespace && c.Info.Parent == key {
				visit(c.Info.Name)
				if c.Info.Kind != snapshotters.KindCommitted {
					used = fmt.Errorf("the %s snapshot %q stands on it: %w", c.Info.Kind, c.Info.Name, errdefs.ErrFailedPrecondition)
				}
			}
		}
		doomed = append(doomed, key)
	}
	visit(s.Info.Name)
	if used == nil {
		used = r.usedByContainer(ctx, name, doomed)
	}
	if used != nil {
		return used
	}
	return removeAll(ctx, ss, doomed)
}

func (r *run) usedByContainer(ctx context.Context, name string, keys []string) error {
	all, err := r.DB.Containers().List(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Snapshotter == name && slices.Contains(keys, c.SnapshotKey) {
			return fmt.Errorf("container %q needs it: remove the container: %w", c.ID, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// removeAll removes snapshots, those that stand on others first.
func removeAll(ctx context.Context, ss snapshotters.Snapshotter, keys []string) error {
	var errs []error
	for _, key := range keys {
		if err := ss.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// orphanSnapshots are bytes that the database doesn't name.
func (r *run) orphanSnapshots() error {
	for _, name := range sorted(r.ids) {
		named := map[string]bool{}
		for _, s := range r.inv.Snapshots[name] {
			named[s.ID] = true
		}
		for _, id := range r.ids[name] {
			if named[id] {
				continue
			}
			if err := r.looked(0); err != nil {
				return err
			}
			f := Finding{Severity: Note, Code: "snapshot-orphan", Kind: "snapshot", ID: name + "/" + id,
				Message: "the driver holds an ID that has no name: it is being made, or the rest of a failure"}
			if err := r.found(f, func() error { return r.DB.DropSnapshotBytes(r.ctx, name, id) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// dangling reports references that lead nowhere. They are not mended: removing
// what refers would lose more than is lost.
func (r *run) dangling() error {
	slices.SortFunc(r.inv.Dangling, compareReferences)
	for _, ref := range r.inv.Dangling {
		if err := r.looked(0); err != nil {
			return err
		}
		f := Finding{Severity: weight(ref), Code: ref.From.Type.String() + "-dangling", Namespace: ref.From.Namespace,
			Kind: ref.From.Type.String(), ID: ref.From.Key, Message: fmt.Sprintf("refers to %s %s, which isn't there", ref.To.Type, ref.To.Key)}
		if err := r.found(f, nil); err != nil {
			return err
		}
	}
	return nil
}

// weight of a dangling reference: an image without its target or a container
// without its files is lost. A blob's labels may name what was left out on
// purpose, such as other platforms and layers dropped after unpacking, and a
// lease may hold what was deleted.
func weight(ref metadata.Reference) Severity {
	switch {
	case ref.From.Type == gc.Image, ref.From.Type == gc.Container, ref.From.Type == gc.Snapshot:
		return Damage
	}
	return Note
}

func compareReferences(a, b metadata.Reference) int {
	key := func(n gc.Node) string { return n.Type.String() + "\x00" + n.Namespace + "\x00" + n.Key }
	x, y := key(a.From)+"\x00"+key(a.To), key(b.From)+"\x00"+key(b.To)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
