package metadata

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/network"
)

// bucketNetworks is beside the namespaces, not in one: subnets and interfaces are the
// host's, and exist once.
var bucketNetworks = []byte("networks")

type networkStore struct{ db *DB }

// Networks returns the store of networks.
func (db *DB) Networks() network.Store { return networkStore{db} }

func noNetwork(id string) error { return fmt.Errorf("network %q: %w", id, errdefs.ErrNotFound) }

// put writes a record if there is one of its ID already, or if there is none.
func (st networkStore) put(r network.Record, there bool) error {
	if err := r.Check(); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("network %q: %w", r.ID, err)
	}
	return st.db.update(func(t *tx) error {
		b, err := t.CreateBucketIfNotExists(bucketNetworks)
		if err != nil {
			return err
		}
		switch found := b.Get([]byte(r.ID)) != nil; {
		case found && !there:
			return fmt.Errorf("network %q: %w", r.ID, errdefs.ErrAlreadyExists)
		case !found && there:
			return noNetwork(r.ID)
		}
		return b.Put([]byte(r.ID), data)
	})
}

func (st networkStore) CreateNetwork(_ context.Context, r network.Record) error {
	return st.put(r, false)
}

func (st networkStore) UpdateNetwork(_ context.Context, r network.Record) error {
	return st.put(r, true)
}

func (st networkStore) DeleteNetwork(_ context.Context, id string) error {
	return st.db.update(func(t *tx) error {
		b := t.Bucket(bucketNetworks)
		if b == nil || b.Get([]byte(id)) == nil {
			return noNetwork(id)
		}
		return b.Delete([]byte(id))
	})
}

func (st networkStore) ListNetworks(context.Context) ([]network.Record, error) {
	var out []network.Record
	err := st.db.view(func(t *tx) error {
		return each(t.Bucket(bucketNetworks), func(id string, data []byte) error {
			var r network.Record
			if err := json.Unmarshal(data, &r); err != nil || r.ID != id {
				return fmt.Errorf("record of network %q is damaged: %w", id, errdefs.ErrDataLoss)
			}
			out = append(out, r)
			return nil
		})
	})
	return out, err
}

// each calls fn for every value of a bucket, which may be absent.
func each(b *bolt.Bucket, fn func(key string, value []byte) error) error {
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error { return fn(string(k), v) })
}
