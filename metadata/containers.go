package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
)

// containerRecord is a container as stored.
type containerRecord struct {
	container.Container
	RuntimeOptions *anyRecord            `json:",omitempty"`
	StoredSpec     *anyRecord            `json:",omitempty"`
	StoredExt      map[string]*anyRecord `json:",omitempty"`
}

var containerTable = table[containerRecord]{name: "containers", noun: "container"}

func storeContainer(c container.Container) containerRecord {
	r := containerRecord{Container: c, RuntimeOptions: storeAny(c.Runtime.Options), StoredSpec: storeAny(c.Spec), StoredExt: storeAnys(c.Extensions)}
	r.Container.Runtime.Options, r.Container.Spec, r.Container.Extensions = nil, nil, nil
	return r
}

func (r containerRecord) load() container.Container {
	c := r.Container
	c.Runtime.Options, c.Spec, c.Extensions = loadAny(r.RuntimeOptions), loadAny(r.StoredSpec), loadAnys(r.StoredExt)
	return c
}

type containerStore struct{ db *DB }

// Containers returns the store of containers.
func (db *DB) Containers() container.Store { return containerStore{db} }

func (s containerStore) Get(ctx context.Context, id string) (container.Container, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return container.Container{}, err
	}
	var rec containerRecord
	err = s.db.view(func(t *tx) error {
		rec, err = containerTable.get(t, ns, id)
		return err
	})
	return rec.load(), err
}

func (s containerStore) List(ctx context.Context, filters ...string) ([]container.Container, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	recs, err := containerTable.list(s.db, ns, filters, func(r containerRecord) filter.Adaptor { return containerField(r.Container) })
	out := make([]container.Container, len(recs))
	for i, r := range recs {
		out[i] = r.load()
	}
	return out, err
}

func containerField(c container.Container) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "id":
			return c.ID, true
		case "image":
			return c.Image, c.Image != ""
		case "runtime":
			return c.Runtime.Name, len(path) == 2 && path[1] == "name"
		case "snapshotter":
			return c.Snapshotter, c.Snapshotter != ""
		case "sandboxid", "sandbox_id":
			return c.SandboxID, c.SandboxID != ""
		case "labels":
			return filter.Labels(c.Labels, path[1:])
		}
		return "", false
	}
}

func validateContainer(c container.Container) error {
	if err := namespaces.Validate(c.ID); err != nil {
		return fmt.Errorf("container ID: %w", err)
	}
	switch {
	case c.Runtime.Name == "":
		return fmt.Errorf("container %q names no runtime: %w", c.ID, errdefs.ErrInvalidArgument)
	case c.Spec == nil:
		return fmt.Errorf("container %q has no spec: %w", c.ID, errdefs.ErrInvalidArgument)
	case c.SnapshotKey != "" && c.Snapshotter == "":
		return fmt.Errorf("container %q has a snapshot key but names no snapshotter: %w", c.ID, errdefs.ErrInvalidArgument)
	}
	return label.Validate(c.Labels)
}

func (s containerStore) Create(ctx context.Context, c container.Container) (container.Container, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return c, err
	}
	if err := validateContainer(c); err != nil {
		return c, err
	}
	c.Created = time.Now().UTC()
	c.Updated = c.Created
	err = s.db.updateTogether(ctx, func(t *tx) error {
		t.touch(gc.Node{Type: gc.Container, Namespace: ns, Key: c.ID})
		return containerTable.create(t, ns, c.ID, storeContainer(c))
	})
	if err != nil {
		return container.Container{}, err
	}
	return c, s.db.publish(ctx, "/containers/create", &events.ContainerCreate{
		ID: c.ID, Image: c.Image, Runtime: &events.ContainerCreate_Runtime{Name: c.Runtime.Name},
	})
}

func (s containerStore) Update(ctx context.Context, c container.Container, fieldpaths ...string) (container.Container, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return c, err
	}
	var out container.Container
	err = s.db.update(func(t *tx) error {
		rec, err := containerTable.get(t, ns, c.ID)
		if err != nil {
			return err
		}
		if out, err = mergeContainer(rec.load(), c, fieldpaths); err != nil {
			return err
		}
		if err := validateContainer(out); err != nil {
			return err
		}
		t.touch(gc.Node{Type: gc.Container, Namespace: ns, Key: c.ID})
		return containerTable.put(t, ns, c.ID, storeContainer(out))
	})
	if err != nil {
		return container.Container{}, err
	}
	return out, s.db.publish(ctx, "/containers/update", &events.ContainerUpdate{
		ID: out.ID, Image: out.Image, Labels: out.Labels, SnapshotKey: out.SnapshotKey,
	})
}

func mergeContainer(old, update container.Container, fieldpaths []string) (container.Container, error) {
	out := old
	labels, other := label.Merge(old.Labels, update.Labels, fieldpaths)
	out.Labels, out.Updated = labels, time.Now().UTC()
	if len(fieldpaths) == 0 {
		if update.Snapshotter != old.Snapshotter || update.Runtime.Name != old.Runtime.Name {
			return out, fmt.Errorf("container %q: runtime and snapshotter can't be changed: %w", old.ID, errdefs.ErrInvalidArgument)
		}
		other = []string{"spec", "extensions", "image", "snapshotkey"}
	}
	for _, path := range other {
		ext, one := strings.CutPrefix(path, "extensions.")
		switch {
		case path == "spec":
			out.Spec = update.Spec
		case path == "image":
			out.Image = update.Image
		case path == "snapshotkey":
			out.SnapshotKey = update.SnapshotKey
		case path == "extensions":
			out.Extensions = update.Extensions
		case one:
			out.Extensions = mergeAnys(out.Extensions, update.Extensions, ext)
		default:
			return out, fmt.Errorf("container %q has no field %q that can be updated: %w", old.ID, path, errdefs.ErrInvalidArgument)
		}
	}
	return out, nil
}

func (s containerStore) Delete(ctx context.Context, id string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := s.db.updateTogether(ctx, func(t *tx) error { return containerTable.remove(t, ns, id) }); err != nil {
		return err
	}
	return s.db.publish(ctx, "/containers/delete", &events.ContainerDelete{ID: id})
}
