package metadata

import (
	"context"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/volume"
)

var volumeTable = table[volume.Volume]{name: "volumes", noun: "volume"}

type volumeStore struct{ db *DB }

// Volumes returns the store of volumes. Their bytes are a driver's, who compares what
// it has with the records at the start; the collector never touches them.
func (db *DB) Volumes() volume.Store { return volumeStore{db} }

func (s volumeStore) Create(ctx context.Context, v volume.Volume) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := volume.ValidateName(v.Name); err != nil {
		return err
	}
	return s.db.update(func(t *tx) error { return volumeTable.create(t, ns, v.Name, v) })
}

func (s volumeStore) Get(ctx context.Context, name string) (v volume.Volume, err error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return v, err
	}
	err = s.db.view(func(t *tx) error {
		v, err = volumeTable.get(t, ns, name)
		return err
	})
	return v, err
}

func (s volumeStore) List(ctx context.Context) (out []volume.Volume, err error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	err = s.db.view(func(t *tx) error {
		return volumeTable.each(t, ns, func(_ string, v volume.Volume) error {
			out = append(out, v)
			return nil
		})
	})
	return out, err
}

func (s volumeStore) Delete(ctx context.Context, name string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	return s.db.update(func(t *tx) error { return volumeTable.remove(t, ns, name) })
}
