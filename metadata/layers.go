package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/snapshotters"
)

// Layers returns the named snapshotter's way to take whole layers side by side,
// or NotImplemented where its driver needs parents first.
func (db *DB) Layers(name string) (snapshotters.LayerStore, error) {
	s, err := db.snapshots(name)
	if err != nil {
		return nil, err
	}
	u, ok := s.driver.(snapshotters.Unpacker)
	if !ok {
		return nil, fmt.Errorf("snapshotter %q can't unpack layers side by side: %w", name, errdefs.ErrNotImplemented)
	}
	return &layers{s, u}, nil
}

type layers struct {
	*snapshots
	driver snapshotters.Unpacker
}

func (l *layers) UnpackLayer(ctx context.Context, tar io.Reader, labels map[string]string) (snapshotters.Layer, error) {
	id, err := l.db.newID()
	if err != nil {
		return snapshotters.Layer{}, err
	}
	usage, err := l.driver.Unpack(ctx, id, tar, labels)
	if err != nil {
		return snapshotters.Layer{}, errors.Join(err, l.driver.Remove(context.WithoutCancel(ctx), id))
	}
	return snapshotters.Layer{ID: id, Usage: usage, Labels: labels}, nil
}

func (l *layers) DropLayers(ctx context.Context, drop []snapshotters.Layer) error {
	var errs []error
	for _, layer := range drop {
		errs = append(errs, l.driver.Remove(context.WithoutCancel(ctx), layer.ID))
	}
	return errors.Join(errs...)
}

// CommitLayers syncs once, names all in one transaction, and drops the layers
// whose name somebody else took meanwhile.
func (l *layers) CommitLayers(ctx context.Context, chain []snapshotters.Layer) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, len(chain))
	for i, layer := range chain {
		ids[i] = layer.ID
	}
	if err := l.driver.Sync(ctx, ids); err != nil {
		return errors.Join(err, l.DropLayers(ctx, chain))
	}
	var spare []snapshotters.Layer
	err = l.db.update(func(t *tx) error {
		spare = nil
		for _, layer := range chain {
			err := l.add(ctx, t, ns, layerRecord(layer))
			if errdefs.IsAlreadyExists(err) {
				spare = append(spare, layer)
				err = t.hold(ctx, ns, "snapshots/"+l.name, layer.Name)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, l.DropLayers(ctx, chain))
	}
	return l.DropLayers(ctx, spare)
}

func layerRecord(layer snapshotters.Layer) snapshotRecord {
	now := time.Now().UTC()
	return snapshotRecord{
		Info: snapshotters.Info{
			Kind: snapshotters.KindCommitted, Name: layer.Name, Parent: layer.Parent,
			Labels: layer.Labels, Created: now, Updated: now,
		},
		ID: layer.ID, Usage: layer.Usage,
	}
}
