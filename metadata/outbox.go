package metadata

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/registry"
)

// The outbox is registry/outbox/QUEUE/{errands/REPOSITORY|REFERENCE, count, survey}.
var (
	bucketOutbox  = []byte("outbox")
	bucketErrands = []byte("errands")
	keyCount      = []byte("count")
	keySurvey     = []byte("survey") // the repository up to which it was done
)

type outbox struct{ db *DB }

// Outbox returns the queues beside the catalog of the registry.
func (db *DB) Outbox() registry.Outbox { return outbox{db} }

// Route sets up the queues. A new one begins with a survey.
func (o outbox) Route(queues []string, to func(repo, reference string) []string) error {
	if len(queues) > 0 {
		o.db.route.Store(&to)
	}
	return o.db.update(func(t *tx) error {
		root, err := t.CreateBucketIfNotExists(bucketRegistry)
		if err == nil {
			root, err = root.CreateBucketIfNotExists(bucketOutbox)
		}
		if err != nil {
			return err
		}
		var gone [][]byte
		if err := root.ForEachBucket(func(k []byte) error {
			if !slices.Contains(queues, string(k)) {
				gone = append(gone, slices.Clone(k))
			}
			return nil
		}); err != nil {
			return err
		}
		for _, k := range gone {
			if err := root.DeleteBucket(k); err != nil {
				return err
			}
		}
		for _, q := range queues {
			if root.Bucket([]byte(q)) != nil {
				continue
			}
			b, err := root.CreateBucket([]byte(q))
			if err == nil {
				err = b.Put(keySurvey, nil)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// tell queues changes of a repository, in the transaction that makes them.
func (db *DB) tell(t *tx, repo string, references ...string) error {
	to := db.route.Load()
	if to == nil {
		return nil
	}
	for _, ref := range references {
		for _, name := range (*to)(repo, ref) {
			q, err := queue(t, name)
			if err == nil {
				err = enqueue(q, registry.Errand{Repository: repo, Reference: ref, Since: time.Now().UTC()})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func queue(t *tx, name string) (*bolt.Bucket, error) {
	if root := t.Bucket(bucketRegistry); root != nil && root.Bucket(bucketOutbox) != nil {
		if b := root.Bucket(bucketOutbox).Bucket([]byte(name)); b != nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("queue %q of the outbox: %w", name, errdefs.ErrNotFound)
}

func errandKey(e registry.Errand) []byte { return []byte(e.Repository + "|" + e.Reference) }

// enqueue adds an errand, or makes one that waits a new one, to be tried at once.
func enqueue(q *bolt.Bucket, e registry.Errand) error {
	b, err := q.CreateBucketIfNotExists(bucketErrands)
	if err != nil {
		return err
	}
	var old registry.Errand
	if data := b.Get(errandKey(e)); data != nil {
		if err := json.Unmarshal(data, &old); err == nil {
			e.Since = old.Since
		}
	} else if n := count(q); n >= registry.MaxErrands {
		return q.Put(keySurvey, nil)
	} else if err := setCount(q, n+1); err != nil {
		return err
	}
	if e.Serial, err = q.NextSequence(); err != nil {
		return err
	}
	return putErrand(b, e)
}

func putErrand(b *bolt.Bucket, e registry.Errand) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return b.Put(errandKey(e), data)
}

func count(q *bolt.Bucket) uint64 {
	if v := q.Get(keyCount); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func setCount(q *bolt.Bucket, n uint64) error {
	return q.Put(keyCount, binary.BigEndian.AppendUint64(nil, n))
}

// eachErrand calls fn for the errands of a queue.
func eachErrand(q *bolt.Bucket, fn func(registry.Errand)) error {
	b := q.Bucket(bucketErrands)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, v []byte) error {
		var e registry.Errand
		if err := json.Unmarshal(v, &e); err != nil {
			return fmt.Errorf("errand %q is damaged: %w", k, errdefs.ErrDataLoss)
		}
		fn(e)
		return nil
	})
}

func (o outbox) Due(_ context.Context, name string, now time.Time, n int) ([]registry.Errand, error) {
	var out []registry.Errand
	err := o.db.view(func(t *tx) error {
		out = nil
		q, err := queue(t, name)
		if err != nil {
			return err
		}
		return eachErrand(q, func(e registry.Errand) {
			if !e.Next.After(now) {
				out = append(out, e)
			}
		})
	})
	slices.SortFunc(out, func(a, b registry.Errand) int { return int(int64(a.Serial) - int64(b.Serial)) })
	return out[:min(n, len(out))], err
}

// settle changes an errand that is as it was read.
func (o outbox) settle(name string, e registry.Errand, fn func(q, errands *bolt.Bucket, there bool) error) error {
	return o.db.update(func(t *tx) error {
		q, err := queue(t, name)
		if err != nil {
			return err
		}
		b, err := q.CreateBucketIfNotExists(bucketErrands)
		if err != nil {
			return err
		}
		var now registry.Errand
		data := b.Get(errandKey(e))
		if data != nil && json.Unmarshal(data, &now) == nil && now.Serial != e.Serial {
			return nil
		}
		return fn(q, b, data != nil)
	})
}

func (o outbox) Done(_ context.Context, name string, e registry.Errand) error {
	return o.settle(name, e, func(q, b *bolt.Bucket, there bool) error {
		if !there {
			return nil
		}
		if err := setCount(q, count(q)-1); err != nil {
			return err
		}
		return b.Delete(errandKey(e))
	})
}

func (o outbox) Failed(_ context.Context, name string, e registry.Errand) error {
	return o.settle(name, e, func(q, b *bolt.Bucket, there bool) error {
		if !there {
			if n := count(q); n >= registry.MaxErrands {
				return q.Put(keySurvey, nil)
			} else if err := setCount(q, n+1); err != nil {
				return err
			}
		}
		return putErrand(b, e)
	})
}

func (o outbox) Waiting(_ context.Context, name string) (registry.Waiting, error) {
	var out registry.Waiting
	err := o.db.view(func(t *tx) error {
		out = registry.Waiting{}
		q, err := queue(t, name)
		if err != nil {
			return err
		}
		if k, after := q.Cursor().Seek(keySurvey); string(k) == string(keySurvey) {
			out.Survey, out.After = true, string(after)
		}
		return eachErrand(q, func(e registry.Errand) { add(&out, e) })
	})
	return out, err
}

// add counts an errand.
func add(w *registry.Waiting, e registry.Errand) {
	if w.Errands++; w.Errands == 1 || e.Since.Before(w.Oldest) {
		w.Oldest = e.Since
	}
	if w.Errands == 1 || e.Next.Before(w.Next) {
		w.Next = e.Next
	}
	if e.Tries > 0 {
		w.Failing++
		w.Error = e.Error
	}
}

func (o outbox) Surveyed(_ context.Context, name string, step registry.Step) error {
	return o.db.update(func(t *tx) error {
		q, err := queue(t, name)
		if err != nil || string(q.Get(keySurvey)) != step.From {
			return err
		}
		if step.Done {
			return q.Delete(keySurvey)
		}
		return q.Put(keySurvey, []byte(step.After))
	})
}

func (o outbox) Survey(_ context.Context, name string) error {
	return o.db.update(func(t *tx) error {
		q, err := queue(t, name)
		if err != nil {
			return err
		}
		return q.Put(keySurvey, nil)
	})
}
