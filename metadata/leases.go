package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
)

var (
	leaseTable    = table[lease.Lease]{name: "leases", noun: "lease"}
	resourceTable = table[lease.Resource]{name: "resources", noun: "lease resource"}
)

type leaseManager struct{ db *DB }

// Leases returns the lease manager.
func (db *DB) Leases() lease.Manager { return leaseManager{db} }

// resourceKey sorts a lease's resources together; NUL can't be in an ID.
func resourceKey(id string, r lease.Resource) string { return id + "\x00" + r.Type + "\x00" + r.ID }

// hold adds a resource to the lease of ctx, if there is one.
func (t *tx) hold(ctx context.Context, ns, typ, id string) error {
	l, ok := lease.From(ctx)
	if !ok {
		return nil
	}
	if !leaseTable.has(t, ns, l) {
		return leaseTable.notFound(l)
	}
	r := lease.Resource{ID: id, Type: typ}
	return resourceTable.put(t, ns, resourceKey(l, r), r)
}

func (m leaseManager) Create(ctx context.Context, l lease.Lease) (lease.Lease, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return l, err
	}
	if err := validateLease(l); err != nil {
		return l, err
	}
	l.Created = time.Now().UTC()
	return l, m.db.update(func(t *tx) error { return leaseTable.create(t, ns, l.ID, l) })
}

func validateLease(l lease.Lease) error {
	if l.ID == "" || len(l.ID) > maxImageName || strings.ContainsRune(l.ID, 0) {
		return fmt.Errorf("lease ID %.40q must be 1 to %d bytes without NUL: %w", l.ID, maxImageName, errdefs.ErrInvalidArgument)
	}
	if at := l.Labels[label.GCExpire]; at != "" {
		if _, err := time.Parse(time.RFC3339, at); err != nil {
			return fmt.Errorf("lease %q: label %s: %w: %w", l.ID, label.GCExpire, err, errdefs.ErrInvalidArgument)
		}
	}
	return label.Validate(l.Labels)
}

func (m leaseManager) Delete(ctx context.Context, id string, sync bool) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := m.db.update(func(t *tx) error { return deleteLease(t, ns, id) }); err != nil {
		return err
	}
	if sync {
		_, err = m.db.Collect(ctx)
	}
	return err
}

func deleteLease(t *tx, ns, id string) error {
	if err := leaseTable.remove(t, ns, id); err != nil {
		return err
	}
	var keys []string
	err := eachResource(t, ns, id, func(key string, _ lease.Resource) error {
		keys = append(keys, key)
		return nil
	})
	for _, k := range keys {
		if err := resourceTable.remove(t, ns, k); err != nil {
			return err
		}
	}
	return err
}

// eachResource visits what a lease holds.
func eachResource(t *tx, ns, id string, fn func(string, lease.Resource) error) error {
	b := resourceTable.bucket(t, ns)
	if b == nil {
		return nil
	}
	prefix := id + "\x00"
	c := b.Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
		var r lease.Resource
		if err := resourceTable.decode(string(k), v, &r); err != nil {
			return err
		}
		if err := fn(string(k), r); err != nil {
			return err
		}
	}
	return nil
}

func (m leaseManager) List(ctx context.Context, filters ...string) ([]lease.Lease, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	return leaseTable.list(m.db, ns, filters, func(l lease.Lease) filter.Adaptor {
		return func(path []string) (string, bool) {
			switch path[0] {
			case "id":
				return l.ID, true
			case "labels":
				return filter.Labels(l.Labels, path[1:])
			}
			return "", false
		}
	})
}

func (m leaseManager) AddResource(ctx context.Context, id string, r lease.Resource) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := validateResource(r); err != nil {
		return err
	}
	return m.db.update(func(t *tx) error {
		if !leaseTable.has(t, ns, id) {
			return leaseTable.notFound(id)
		}
		t.touch(gc.Node{Type: gc.Lease, Namespace: ns, Key: id})
		return resourceTable.put(t, ns, resourceKey(id, r), r)
	})
}

func validateResource(r lease.Resource) error {
	known := r.Type == "content" || r.Type == "ingests" || r.Type == "images" || r.Type == "mounts" || strings.HasPrefix(r.Type, "snapshots/")
	if !known || r.ID == "" {
		return fmt.Errorf("lease resource %q of type %q: the type must be content, ingests, images, mounts or snapshots/<name>: %w", r.ID, r.Type, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (m leaseManager) DeleteResource(ctx context.Context, id string, r lease.Resource) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	return m.db.update(func(t *tx) error {
		if !leaseTable.has(t, ns, id) {
			return leaseTable.notFound(id)
		}
		return resourceTable.remove(t, ns, resourceKey(id, r))
	})
}

func (m leaseManager) Resources(ctx context.Context, id string) ([]lease.Resource, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	var out []lease.Resource
	err = m.db.view(func(t *tx) error {
		out = nil
		if !leaseTable.has(t, ns, id) {
			return leaseTable.notFound(id)
		}
		return eachResource(t, ns, id, func(_ string, r lease.Resource) error {
			out = append(out, r)
			return nil
		})
	})
	return out, err
}
