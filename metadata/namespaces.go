package metadata

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
)

// The namespace's own labels are one record in a table of their own.
var namespaceTable = table[namespaces.Info]{name: "labels", noun: "namespace"}

const namespaceKey = "self"

type namespaceStore struct{ db *DB }

// Namespaces returns the store of namespaces.
func (db *DB) Namespaces() namespaces.Store { return namespaceStore{db} }

func (s namespaceStore) Create(ctx context.Context, ns namespaces.Info) error {
	if err := namespaces.Validate(ns.Name); err != nil {
		return err
	}
	if err := label.Validate(ns.Labels); err != nil {
		return err
	}
	err := s.db.update(func(t *tx) error {
		if t.Bucket(bucketNS).Bucket([]byte(ns.Name)) != nil {
			return fmt.Errorf("namespace %q: %w", ns.Name, errdefs.ErrAlreadyExists)
		}
		return namespaceTable.put(t, ns.Name, namespaceKey, ns)
	})
	if err != nil {
		return err
	}
	ctx = namespaces.With(ctx, ns.Name)
	return s.db.publish(ctx, "/namespaces/create", &events.NamespaceCreate{Name: ns.Name, Labels: ns.Labels})
}

func (s namespaceStore) Update(ctx context.Context, ns namespaces.Info, fieldpaths ...string) (namespaces.Info, error) {
	var out namespaces.Info
	err := s.db.update(func(t *tx) error {
		old, err := loadNamespace(t, ns.Name)
		if err != nil {
			return err
		}
		labels, other := label.Merge(old.Labels, ns.Labels, fieldpaths)
		if len(other) > 0 {
			return fmt.Errorf("namespace %q has no field %q to update: %w", ns.Name, other[0], errdefs.ErrInvalidArgument)
		}
		if err := label.Validate(labels); err != nil {
			return err
		}
		out = namespaces.Info{Name: ns.Name, Labels: labels}
		return namespaceTable.put(t, ns.Name, namespaceKey, out)
	})
	if err != nil {
		return namespaces.Info{}, err
	}
	ctx = namespaces.With(ctx, ns.Name)
	return out, s.db.publish(ctx, "/namespaces/update", &events.NamespaceUpdate{Name: out.Name, Labels: out.Labels})
}

// loadNamespace reads a namespace; one that came to be with its first record has no labels.
func loadNamespace(t *tx, name string) (namespaces.Info, error) {
	if name == "" || t.Bucket(bucketNS).Bucket([]byte(name)) == nil {
		return namespaces.Info{}, namespaceTable.notFound(name)
	}
	info, err := namespaceTable.get(t, name, namespaceKey)
	if errdefs.IsNotFound(err) {
		return namespaces.Info{Name: name}, nil
	}
	return info, err
}

func (s namespaceStore) Get(_ context.Context, name string) (info namespaces.Info, err error) {
	err = s.db.view(func(t *tx) error {
		info, err = loadNamespace(t, name)
		return err
	})
	return info, err
}

func (s namespaceStore) List(context.Context) ([]namespaces.Info, error) {
	var out []namespaces.Info
	err := s.db.view(func(t *tx) error {
		for _, name := range t.namespaces() {
			info, err := loadNamespace(t, name)
			if err != nil {
				return err
			}
			out = append(out, info)
		}
		return nil
	})
	return out, err
}

func (s namespaceStore) Delete(ctx context.Context, name string) error {
	err := s.db.update(func(t *tx) error {
		if _, err := loadNamespace(t, name); err != nil {
			return err
		}
		if left := leftIn(t.Bucket(bucketNS).Bucket([]byte(name))); left != "" {
			return fmt.Errorf("namespace %q still has %s: remove them first: %w", name, left, errdefs.ErrFailedPrecondition)
		}
		t.deletion = true
		return t.Bucket(bucketNS).DeleteBucket([]byte(name))
	})
	if err != nil {
		return err
	}
	ctx = namespaces.With(ctx, name)
	return s.db.publish(ctx, "/namespaces/delete", &events.NamespaceDelete{Name: name})
}

// leftIn names the tables of a namespace that aren't empty.
func leftIn(ns *bolt.Bucket) string {
	var left []string
	ns.ForEachBucket(func(k []byte) error {
		name := string(k)
		if first, _ := ns.Bucket(k).Cursor().First(); first != nil && name != namespaceTable.name {
			left = append(left, name)
		}
		return nil
	})
	return strings.Join(left, ", ")
}
