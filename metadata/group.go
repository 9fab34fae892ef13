package metadata

import (
	"context"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/together"
)

// maxGroup bounds how many writes share one transaction.
const maxGroup = 256

// tx is a transaction with the collector's notes: which nodes it touched.
type tx struct {
	*bolt.Tx
	touched  []gc.Node
	deletion bool
}

// touch tells a collection under way that n is new or refers to something new.
func (t *tx) touch(n gc.Node) { t.touched = append(t.touched, n) }

// write is one caller's part of a group.
type write struct {
	fn   func(*tx) error
	done chan error
}

// group lets writers that come at the same time share a commit: whoever finds
// nobody committing leads, the others queue and are taken along next.
type group struct {
	mu      sync.Mutex
	queue   []*write
	leading bool
	run     func([]*write)
}

// update runs fn in a write transaction that is durable on return. fn may run
// more than once, so it must set everything it sets anew each time.
func (db *DB) update(fn func(*tx) error) error { return db.updateTogether(context.Background(), fn) }

// updateTogether is update, in one commit with the writes of the same party: see
// [together.Do].
func (db *DB) updateTogether(ctx context.Context, fn func(*tx) error) error {
	w := &write{fn: fn, done: make(chan error, 1)}
	db.group.push(w)
	together.Arrive(ctx, db.group.lead)
	return <-w.done
}

func (g *group) push(w *write) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, w)
}

// lead commits what is queued, unless somebody does so already.
func (g *group) lead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leading {
		return
	}
	g.leading = true
	for len(g.queue) > 0 {
		n := min(len(g.queue), maxGroup)
		batch := g.queue[:n:n]
		g.queue = g.queue[n:]
		g.mu.Unlock()
		g.run(batch)
		g.mu.Lock()
	}
	g.leading = false
}

// runGroup commits the writes together. One that fails gets its error and the
// rest are run again without it.
func (db *DB) runGroup(batch []*write) {
	for len(batch) > 0 {
		t := &tx{}
		failed, used := -1, int64(0)
		err := db.bolt.Update(func(b *bolt.Tx) error {
			t.Tx = b
			used = b.Size()
			for i, w := range batch {
				if err := w.fn(t); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed >= 0 {
			batch[failed].done <- err
			batch = append(batch[:failed:failed], batch[failed+1:]...)
			continue
		}
		if err == nil {
			db.keepRoom(used)
			db.committed(t)
		}
		for _, w := range batch {
			w.done <- err
		}
		return
	}
}

func (db *DB) committed(t *tx) {
	db.touchMu.Lock()
	if db.marking {
		db.touched = append(db.touched, t.touched...)
	}
	db.touchMu.Unlock()
	if fn := db.onChange.Load(); fn != nil {
		(*fn)(t.deletion)
	}
}

// view runs fn in a read transaction.
func (db *DB) view(fn func(*tx) error) error {
	return db.bolt.View(func(b *bolt.Tx) error { return fn(&tx{Tx: b}) })
}
