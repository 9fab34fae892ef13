package metadata

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
)

// mountRecord is an activation as stored.
type mountRecord struct {
	mount.Activation
	// Leased ones live as long as something refers to them; others are roots.
	Leased bool `json:",omitempty"`
}

var mountTable = table[mountRecord]{name: "mounts", noun: "activation of mounts"}

type mountStore struct{ db *DB }

// Mounts returns the records of activated mounts.
func (db *DB) Mounts() mount.Activations { return mountStore{db} }

// OnUnmount sets who undoes the mounts of an activation that the collector
// removes. Without it the collector leaves activations alone.
func (db *DB) OnUnmount(fn func(ctx context.Context, a mount.Activation) error) {
	db.unmount.Store(&fn)
}

func mountNode(ns, name string) gc.Node { return gc.Node{Type: gc.Mount, Namespace: ns, Key: name} }

func validateActivation(a mount.Activation) error {
	if a.Name == "" || len(a.Name) > maxImageName || strings.ContainsRune(a.Name, 0) {
		return fmt.Errorf("name of mounts %.40q must be 1 to %d bytes without NUL: %w", a.Name, maxImageName, errdefs.ErrInvalidArgument)
	}
	return label.Validate(a.Labels)
}

func (s mountStore) Create(ctx context.Context, a mount.Activation) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := validateActivation(a); err != nil {
		return err
	}
	_, leased := lease.From(ctx)
	return s.db.update(func(t *tx) error {
		t.touch(mountNode(ns, a.Name))
		if err := mountTable.create(t, ns, a.Name, mountRecord{a, leased}); err != nil {
			return err
		}
		return t.hold(ctx, ns, "mounts", a.Name)
	})
}

func (s mountStore) Update(ctx context.Context, a mount.Activation, fieldpaths ...string) (mount.Activation, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return a, err
	}
	var rec mountRecord
	err = s.db.update(func(t *tx) error {
		if rec, err = mountTable.get(t, ns, a.Name); err != nil {
			return err
		}
		labels, other := label.Merge(rec.Labels, a.Labels, fieldpaths)
		if len(other) > 0 {
			return fmt.Errorf("mounts %q have no field %q to update: %w", a.Name, other[0], errdefs.ErrInvalidArgument)
		}
		rec.Labels = labels
		if err := validateActivation(rec.Activation); err != nil {
			return err
		}
		t.touch(mountNode(ns, a.Name))
		return mountTable.put(t, ns, a.Name, rec)
	})
	return rec.Activation, err
}

func (s mountStore) Get(ctx context.Context, name string) (mount.Activation, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return mount.Activation{}, err
	}
	var rec mountRecord
	err = s.db.view(func(t *tx) error {
		rec, err = mountTable.get(t, ns, name)
		return err
	})
	return rec.Activation, err
}

func (s mountStore) List(ctx context.Context, filters ...string) ([]mount.Activation, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	recs, err := mountTable.list(s.db, ns, filters, mountField)
	out := make([]mount.Activation, len(recs))
	for i, r := range recs {
		out[i] = r.Activation
	}
	return out, err
}

func mountField(r mountRecord) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "name":
			return r.Name, true
		case "labels":
			return filter.Labels(r.Labels, path[1:])
		}
		return "", false
	}
}

func (s mountStore) Delete(ctx context.Context, name string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	return s.db.update(func(t *tx) error { return mountTable.remove(t, ns, name) })
}

func (g *graph) mounts(t *tx, ns string) error {
	return mountTable.each(t, ns, func(key string, rec mountRecord) error {
		n := mountNode(ns, key)
		g.node(n, rec.Labels)
		if !rec.Leased {
			g.roots = append(g.roots, n)
		}
		return nil
	})
}
