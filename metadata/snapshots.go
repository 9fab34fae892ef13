package metadata

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/snapshotters"
)

// snapshotRecord is a snapshot as stored; ID names its bytes to the driver.
type snapshotRecord struct {
	snapshotters.Info
	ID    string
	Usage snapshotters.Usage `json:",omitzero"` // of a committed one
}

// maxSnapshotDepth bounds a chain of parents; overlayfs takes 500 layers.
const maxSnapshotDepth = 512

// snapshots is one snapshotter of the database. The children table holds
// "<parent>\x00<child>" so that a parent's children are found at once.
type snapshots struct {
	db       *DB
	name     string
	driver   snapshotters.Driver
	table    table[snapshotRecord]
	children table[struct{}]
}

// Snapshotter returns the snapshotter of that name, or NotFound.
func (db *DB) Snapshotter(name string) (snapshotters.Snapshotter, error) {
	s, err := db.snapshots(name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (db *DB) snapshots(name string) (*snapshots, error) {
	d, ok := db.back.Drivers[name]
	if !ok {
		return nil, fmt.Errorf("snapshotter %q: %w", name, errdefs.ErrNotFound)
	}
	return &snapshots{
		db: db, name: name, driver: d,
		table:    table[snapshotRecord]{name: "snapshots." + name, noun: "snapshot"},
		children: table[struct{}]{name: "children." + name, noun: "child"},
	}, nil
}

func (s *snapshots) node(ns, key string) gc.Node {
	return gc.Node{Type: gc.Snapshot, Namespace: ns, Key: s.name + "/" + key}
}

func (s *snapshots) record(ctx context.Context, key string) (rec snapshotRecord, ns string, err error) {
	if ns, err = namespaces.Required(ctx); err != nil {
		return rec, ns, err
	}
	err = s.db.view(func(t *tx) error {
		rec, err = s.table.get(t, ns, key)
		return err
	})
	return rec, ns, err
}

func (s *snapshots) Stat(ctx context.Context, key string) (snapshotters.Info, error) {
	rec, _, err := s.record(ctx, key)
	return rec.Info, err
}

func (s *snapshots) Update(ctx context.Context, info snapshotters.Info, fieldpaths ...string) (snapshotters.Info, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return info, err
	}
	var rec snapshotRecord
	err = s.db.update(func(t *tx) error {
		if rec, err = s.table.get(t, ns, info.Name); err != nil {
			return err
		}
		labels, other := label.Merge(rec.Labels, info.Labels, fieldpaths)
		if len(other) > 0 {
			return fmt.Errorf("snapshot %q has no field %q to update: %w", info.Name, other[0], errdefs.ErrInvalidArgument)
		}
		if err := label.Validate(labels); err != nil {
			return err
		}
		rec.Labels, rec.Updated = labels, time.Now().UTC()
		t.touch(s.node(ns, info.Name))
		return s.table.put(t, ns, info.Name, rec)
	})
	return rec.Info, err
}

func (s *snapshots) Usage(ctx context.Context, key string) (snapshotters.Usage, error) {
	rec, ns, err := s.record(ctx, key)
	if err != nil || rec.Kind == snapshotters.KindCommitted {
		return rec.Usage, err
	}
	st, err := s.storage(ns, rec)
	if err != nil {
		return snapshotters.Usage{}, err
	}
	return s.driver.Usage(ctx, st)
}

func (s *snapshots) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	rec, ns, err := s.record(ctx, key)
	if err != nil {
		return nil, err
	}
	if rec.Kind == snapshotters.KindCommitted {
		return nil, fmt.Errorf("snapshot %q is committed: make a view of it to mount it: %w", key, errdefs.ErrFailedPrecondition)
	}
	st, err := s.storage(ns, rec)
	if err != nil {
		return nil, err
	}
	return s.driver.Mounts(ctx, st)
}

// storage names a snapshot's bytes and those of its ancestors to the driver.
func (s *snapshots) storage(ns string, rec snapshotRecord) (st snapshotters.Storage, err error) {
	st = snapshotters.Storage{ID: rec.ID, Kind: rec.Kind, Labels: rec.Labels}
	err = s.db.view(func(t *tx) error {
		st.Parents, err = s.ancestors(t, ns, rec.Parent)
		return err
	})
	return st, err
}

func (s *snapshots) ancestors(t *tx, ns, name string) ([]string, error) {
	var ids []string
	for name != "" {
		rec, err := s.table.get(t, ns, name)
		if err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
		if rec.Kind != snapshotters.KindCommitted {
			return nil, fmt.Errorf("parent %q is not committed: %w", name, errdefs.ErrFailedPrecondition)
		}
		if ids = append(ids, rec.ID); len(ids) > maxSnapshotDepth {
			return nil, fmt.Errorf("snapshot %q has more than %d ancestors: %w", name, maxSnapshotDepth, errdefs.ErrInvalidArgument)
		}
		name = rec.Parent
	}
	return ids, nil
}

func (s *snapshots) Prepare(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshotters.KindActive, key, parent, labels)
}

func (s *snapshots) View(ctx context.Context, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	return s.create(ctx, snapshotters.KindView, key, parent, labels)
}

func (s *snapshots) create(ctx context.Context, kind snapshotters.Kind, key, parent string, labels map[string]string) ([]mount.Mount, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	if err := validateSnapshot(key, labels); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	rec := snapshotRecord{Info: snapshotters.Info{Kind: kind, Name: key, Parent: parent, Labels: labels, Created: now, Updated: now}}
	st, err := s.begin(ns, &rec)
	if err != nil {
		return nil, err
	}
	mounts, err := s.driver.Create(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", key, err)
	}
	if err := s.db.updateTogether(ctx, func(t *tx) error { return s.add(ctx, t, ns, rec) }); err != nil {
		return nil, errors.Join(err, s.driver.Remove(context.WithoutCancel(ctx), rec.ID))
	}
	return mounts, s.db.publish(ctx, "/snapshot/prepare", &events.SnapshotPrepare{Key: key, Parent: parent, Snapshotter: s.name})
}

// begin checks before the driver works, and takes an ID.
func (s *snapshots) begin(ns string, rec *snapshotRecord) (snapshotters.Storage, error) {
	err := s.db.view(func(t *tx) error {
		if s.table.has(t, ns, rec.Name) {
			return fmt.Errorf("snapshot %q: %w", rec.Name, errdefs.ErrAlreadyExists)
		}
		return nil
	})
	if err != nil {
		return snapshotters.Storage{}, err
	}
	if rec.ID, err = s.db.newID(); err != nil {
		return snapshotters.Storage{}, err
	}
	return s.storage(ns, *rec)
}

// add names a snapshot. The parent is looked up again: it may have gone meanwhile.
func (s *snapshots) add(ctx context.Context, t *tx, ns string, rec snapshotRecord) error {
	if rec.Parent != "" {
		if !s.table.has(t, ns, rec.Parent) {
			return fmt.Errorf("parent: %w", s.table.notFound(rec.Parent))
		}
		if err := s.children.put(t, ns, rec.Parent+"\x00"+rec.Name, struct{}{}); err != nil {
			return err
		}
	}
	if err := s.table.create(t, ns, rec.Name, rec); err != nil {
		return err
	}
	t.touch(s.node(ns, rec.Name))
	return t.hold(ctx, ns, "snapshots/"+s.name, rec.Name)
}

func validateSnapshot(key string, labels map[string]string) error {
	if key == "" || len(key) > maxImageName || strings.ContainsRune(key, 0) {
		return fmt.Errorf("snapshot key %.40q must be 1 to %d bytes without NUL: %w", key, maxImageName, errdefs.ErrInvalidArgument)
	}
	return label.Validate(labels)
}

func (s *snapshots) Commit(ctx context.Context, name, key string, labels map[string]string) error {
	if err := validateSnapshot(name, labels); err != nil {
		return err
	}
	rec, ns, err := s.record(ctx, key)
	if err != nil {
		return err
	}
	if rec.Kind != snapshotters.KindActive {
		return fmt.Errorf("snapshot %q is not active: %w", key, errdefs.ErrFailedPrecondition)
	}
	st, err := s.storage(ns, rec)
	if err != nil {
		return err
	}
	if _, err := s.Stat(ctx, name); err == nil {
		return fmt.Errorf("snapshot %q: %w", name, errdefs.ErrAlreadyExists)
	}
	usage, err := s.driver.Commit(ctx, st)
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", key, err)
	}
	rec.Usage, rec.Kind, rec.Name, rec.Labels, rec.Created = usage, snapshotters.KindCommitted, name, labels, time.Now().UTC()
	rec.Updated = rec.Created
	err = s.db.update(func(t *tx) error {
		if err := s.forget(t, ns, key); err != nil {
			return err
		}
		return s.add(ctx, t, ns, rec)
	})
	if err != nil {
		return err
	}
	return s.db.publish(ctx, "/snapshot/commit", &events.SnapshotCommit{Key: key, Name: name, Snapshotter: s.name})
}

// forget removes a snapshot's record and its parent's note of it.
func (s *snapshots) forget(t *tx, ns, key string) error {
	rec, err := s.table.get(t, ns, key)
	if err != nil {
		return err
	}
	if rec.Parent != "" {
		if err := s.children.remove(t, ns, rec.Parent+"\x00"+key); err != nil {
			return err
		}
	}
	return s.table.remove(t, ns, key)
}

// hasChildren reports whether any snapshot stands on key.
func (s *snapshots) hasChildren(t *tx, ns, key string) bool {
	b := s.children.bucket(t, ns)
	if b == nil {
		return false
	}
	k, _ := b.Cursor().Seek([]byte(key + "\x00"))
	return strings.HasPrefix(string(k), key+"\x00")
}

func (s *snapshots) Remove(ctx context.Context, key string) error {
	rec, ns, err := s.record(ctx, key)
	if err != nil {
		return err
	}
	err = s.db.updateTogether(ctx, func(t *tx) error {
		if s.hasChildren(t, ns, key) {
			return fmt.Errorf("snapshot %q has children: remove them first: %w", key, errdefs.ErrFailedPrecondition)
		}
		return s.forget(t, ns, key)
	})
	if err != nil {
		return err
	}
	// Nothing names the bytes any more: a failure here is mended by Reconcile.
	return errors.Join(
		s.driver.Remove(context.WithoutCancel(ctx), rec.ID),
		s.db.publish(ctx, "/snapshot/remove", &events.SnapshotRemove{Key: key, Snapshotter: s.name}))
}

func (s *snapshots) Walk(ctx context.Context, fn func(context.Context, snapshotters.Info) error, filters ...string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	recs, err := s.table.list(s.db, ns, filters, snapshotField)
	if err != nil {
		return err
	}
	for _, rec := range recs {
		if err := fn(ctx, rec.Info); err != nil {
			return err
		}
	}
	return nil
}

func snapshotField(rec snapshotRecord) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "name":
			return rec.Name, true
		case "parent":
			return rec.Parent, rec.Parent != ""
		case "kind":
			return strings.ToLower(rec.Kind.String()), true
		case "labels":
			return filter.Labels(rec.Labels, path[1:])
		}
		return "", false
	}
}
