package metadata

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/filter"
)

// table is one sort of record in a namespace: a bucket of JSON values.
type table[T any] struct {
	name string // of the bucket
	noun string // in errors
}

// bucket finds the table's bucket; nil where the namespace or table is absent.
func (tb table[T]) bucket(t *tx, ns string) *bolt.Bucket {
	b := t.Bucket(bucketNS).Bucket([]byte(ns))
	if b == nil {
		return nil
	}
	return b.Bucket([]byte(tb.name))
}

func (tb table[T]) get(t *tx, ns, key string) (T, error) {
	var rec T
	b := tb.bucket(t, ns)
	if b == nil || key == "" {
		return rec, tb.notFound(key)
	}
	data := b.Get([]byte(key))
	if data == nil {
		return rec, tb.notFound(key)
	}
	return rec, tb.decode(key, data, &rec)
}

func (tb table[T]) decode(key string, data []byte, into *T) error {
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("record of %s %q is damaged: %w: %w", tb.noun, key, err, errdefs.ErrDataLoss)
	}
	return nil
}

func (tb table[T]) has(t *tx, ns, key string) bool {
	b := tb.bucket(t, ns)
	return b != nil && b.Get([]byte(key)) != nil
}

func (tb table[T]) notFound(key string) error {
	return fmt.Errorf("%s %q: %w", tb.noun, key, errdefs.ErrNotFound)
}

// create adds a record. The namespace appears with its first record.
func (tb table[T]) create(t *tx, ns, key string, rec T) error {
	if tb.has(t, ns, key) {
		return fmt.Errorf("%s %q: %w", tb.noun, key, errdefs.ErrAlreadyExists)
	}
	return tb.put(t, ns, key, rec)
}

func (tb table[T]) put(t *tx, ns, key string, rec T) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("%s %q: %w", tb.noun, key, err)
	}
	nb, err := t.Bucket(bucketNS).CreateBucketIfNotExists([]byte(ns))
	if err != nil {
		return err
	}
	b, err := nb.CreateBucketIfNotExists([]byte(tb.name))
	if err != nil {
		return err
	}
	if err := b.Put([]byte(key), data); err != nil {
		return fmt.Errorf("%s %q: %w", tb.noun, key, err)
	}
	return nil
}

func (tb table[T]) remove(t *tx, ns, key string) error {
	if !tb.has(t, ns, key) {
		return tb.notFound(key)
	}
	t.deletion = true
	return tb.bucket(t, ns).Delete([]byte(key))
}

// each calls fn for every record, sorted by key.
func (tb table[T]) each(t *tx, ns string, fn func(key string, rec T) error) error {
	b := tb.bucket(t, ns)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		var rec T
		if err := tb.decode(string(k), v, &rec); err != nil {
			return err
		}
		return fn(string(k), rec)
	})
}

// list collects the records whose fields match any filter.
func (tb table[T]) list(db *DB, ns string, filters []string, field func(T) filter.Adaptor) ([]T, error) {
	f, err := filter.Parse(filters...)
	if err != nil {
		return nil, err
	}
	var out []T
	err = db.view(func(t *tx) error {
		return tb.each(t, ns, func(_ string, rec T) error {
			if f.Match(field(rec)) {
				out = append(out, rec)
			}
			return nil
		})
	})
	return out, err
}

// namespaces lists the namespaces that have a bucket.
func (t *tx) namespaces() []string {
	var out []string
	t.Bucket(bucketNS).ForEachBucket(func(k []byte) error {
		out = append(out, string(k))
		return nil
	})
	return out
}
