package metadata

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
)

// sweepBatch bounds how many records one transaction of the sweep deletes, and
// so how long a writer waits for it.
const sweepBatch = 256

// Stats tells what a collection did.
type Stats struct {
	Live, Swept map[gc.Type]int
	Mark, Sweep time.Duration
	// Pause is the longest time a writer had to wait for one transaction.
	Pause time.Duration
	// Removed is what was, or would be, removed.
	Removed []Removed
}

// Removed is one object that nothing referred to.
type Removed struct {
	Node gc.Node
	// Bytes it had, of blobs and committed snapshots. Those of a blob that another
	// namespace names stay on the disk.
	Bytes int64
}

// garbage is one record to go, and afterwards the bytes it names.
type garbage struct {
	node  gc.Node
	id    string // of a snapshot's bytes
	bytes int64
	mount mount.Activation
}

// Collect removes what nothing refers to. Marking reads a snapshot of the
// database while writers go on; what they touch meanwhile counts as referred to.
func (db *DB) Collect(ctx context.Context) (Stats, error) { return db.collect(ctx, false) }

// DryCollect tells what Collect would remove, and removes nothing.
func (db *DB) DryCollect(ctx context.Context) (Stats, error) { return db.collect(ctx, true) }

func (db *DB) collect(ctx context.Context, dry bool) (Stats, error) {
	db.collectMu.Lock()
	defer db.collectMu.Unlock()
	db.startMarking()
	defer db.stopMarking()
	start := time.Now()
	g, marker, err := db.mark(ctx)
	if err != nil {
		return Stats{}, err
	}
	dead := deadOf(g, marker)
	st := statsOf(marker, dead)
	st.Mark = time.Since(start)
	if dry {
		err := db.view(func(t *tx) error {
			for _, n := range dead {
				st.Removed = append(st.Removed, Removed{n, db.size(t, n)})
			}
			return nil
		})
		return st, err
	}
	start = time.Now()
	err = db.sweep(ctx, marker, dead, &st)
	st.Sweep = time.Since(start)
	return st, err
}

func (db *DB) startMarking() {
	db.touchMu.Lock()
	defer db.touchMu.Unlock()
	db.marking, db.touched = true, nil
}

func (db *DB) stopMarking() {
	db.touchMu.Lock()
	defer db.touchMu.Unlock()
	db.marking, db.touched = false, nil
}

func (db *DB) mark(ctx context.Context) (*graph, *gc.Marker, error) {
	var g *graph
	marker := &gc.Marker{Seen: map[gc.Node]struct{}{}}
	err := db.view(func(t *tx) (err error) {
		g, err = db.scan(t, time.Now())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return g, marker, marker.Add(ctx, g.roots, func(n gc.Node, visit func(gc.Node)) error {
		for _, to := range g.edges[n] {
			visit(to)
		}
		return nil
	})
}

// deadOf lists the unmarked nodes, snapshots before their parents.
func deadOf(g *graph, m *gc.Marker) []gc.Node {
	var dead, chains []gc.Node
	children := map[gc.Node]int{}
	for n, refs := range g.edges {
		if _, live := m.Seen[n]; live || n.Type == gc.Container || n.Type == gc.Sandbox {
			continue
		}
		if n.Type != gc.Snapshot {
			dead = append(dead, n)
			continue
		}
		chains = append(chains, n)
		for _, to := range refs {
			if _, live := m.Seen[to]; !live && to.Type == gc.Snapshot {
				children[to]++
			}
		}
	}
	return append(dead, leavesFirst(g, chains, children)...)
}

// leavesFirst orders dead snapshots so that a parent comes after its children.
func leavesFirst(g *graph, chains []gc.Node, children map[gc.Node]int) []gc.Node {
	var out, ready []gc.Node
	for _, n := range chains {
		if children[n] == 0 {
			ready = append(ready, n)
		}
	}
	for len(ready) > 0 {
		n := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		out = append(out, n)
		for _, to := range g.edges[n] {
			if children[to] == 0 {
				continue // live, or no snapshot
			}
			if children[to]--; children[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	return out
}

func statsOf(m *gc.Marker, dead []gc.Node) Stats {
	st := Stats{Live: map[gc.Type]int{}, Swept: map[gc.Type]int{}}
	for n := range m.Seen {
		st.Live[n.Type]++
	}
	for _, n := range dead {
		st.Swept[n.Type]++
	}
	return st
}

// sweep deletes records in small transactions, and bytes after each.
func (db *DB) sweep(ctx context.Context, m *gc.Marker, dead []gc.Node, st *Stats) error {
	var errs []error
	for len(dead) > 0 {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		n := min(len(dead), sweepBatch)
		began := time.Now()
		gone, err := db.sweepRecords(ctx, m, dead[:n])
		st.Pause = max(st.Pause, time.Since(began))
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		dead = dead[n:]
		for _, item := range gone {
			st.Removed = append(st.Removed, Removed{item.node, item.bytes})
			if err := db.sweepBytes(ctx, item); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// sweepRecords deletes the records of dead that are still unreferenced: nodes
// touched since the mark, and all they refer to by now, are live.
func (db *DB) sweepRecords(ctx context.Context, m *gc.Marker, dead []gc.Node) ([]garbage, error) {
	var gone []garbage
	err := db.update(func(t *tx) error {
		gone = gone[:0]
		if err := m.Add(ctx, db.takeTouched(t), func(n gc.Node, visit func(gc.Node)) error { return db.refs(t, n, visit) }); err != nil {
			return err
		}
		for _, n := range dead {
			if _, live := m.Seen[n]; live {
				continue
			}
			size := db.size(t, n)
			item, err := db.forgetNode(t, n)
			item.bytes = size
			if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
				continue
			}
			if err != nil {
				return err
			}
			gone = append(gone, item)
		}
		t.deletion = false // the collector doesn't wake itself
		return nil
	})
	return gone, err
}

// takeTouched returns what was touched since the mark, with what the same group
// of writes touched before the sweep's turn.
func (db *DB) takeTouched(t *tx) []gc.Node {
	db.touchMu.Lock()
	defer db.touchMu.Unlock()
	return append(append([]gc.Node(nil), db.touched...), t.touched...)
}

// refs visits what a node refers to in the present transaction.
func (db *DB) refs(t *tx, n gc.Node, visit func(gc.Node)) error {
	g := &graph{edges: map[gc.Node][]gc.Node{}}
	var err error
	switch n.Type {
	case gc.Image:
		if img, e := imageTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, img.Labels, contentNode(n.Namespace, img.Target.Digest))
		}
	case gc.Container:
		if c, e := containerTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, c.Labels, containerRefs(n.Namespace, c)...)
		}
	case gc.Sandbox:
		if s, e := sandboxTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, s.Labels)
		}
	case gc.Content:
		if info, e := contentTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, info.Labels)
		}
	case gc.Ingest:
		if rec, e := ingestTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, nil, ingestRefs(n.Namespace, rec)...)
		}
	case gc.Lease:
		err = db.leaseEdges(t, n, g)
	case gc.Mount:
		if rec, e := mountTable.get(t, n.Namespace, n.Key); e == nil {
			g.node(n, rec.Labels)
		}
	case gc.Snapshot:
		name, key, _ := strings.Cut(n.Key, "/")
		if s, e := db.snapshots(name); e == nil {
			if rec, e := s.table.get(t, n.Namespace, key); e == nil {
				g.node(n, rec.Labels, s.refs(n.Namespace, rec.Info)...)
			}
		}
	}
	for _, to := range g.edges[n] {
		visit(to)
	}
	return err
}

func (db *DB) leaseEdges(t *tx, n gc.Node, g *graph) error {
	l, err := leaseTable.get(t, n.Namespace, n.Key)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	refs, err := leaseRefs(t, n.Namespace, l)
	g.node(n, l.Labels, refs...)
	return err
}

// size is what is known of a node's bytes; 0 if nothing is.
func (db *DB) size(t *tx, n gc.Node) int64 {
	switch n.Type {
	case gc.Content:
		info, _ := contentTable.get(t, n.Namespace, n.Key)
		return info.Size
	case gc.Snapshot:
		name, key, _ := strings.Cut(n.Key, "/")
		if s, err := db.snapshots(name); err == nil {
			rec, _ := s.table.get(t, n.Namespace, key)
			return rec.Usage.Size
		}
	}
	return 0
}

// forgetNode deletes a node's record.
func (db *DB) forgetNode(t *tx, n gc.Node) (garbage, error) {
	switch n.Type {
	case gc.Content:
		return garbage{node: n}, contentTable.remove(t, n.Namespace, n.Key)
	case gc.Ingest:
		return garbage{node: n}, ingestTable.remove(t, n.Namespace, n.Key)
	case gc.Image:
		return garbage{node: n}, imageTable.remove(t, n.Namespace, n.Key)
	case gc.Lease:
		return garbage{node: n}, deleteLease(t, n.Namespace, n.Key)
	case gc.Mount:
		rec, err := mountTable.get(t, n.Namespace, n.Key)
		if err == nil && db.unmount.Load() == nil {
			err = errdefs.ErrFailedPrecondition
		}
		if err != nil {
			return garbage{}, err
		}
		return garbage{node: n, mount: rec.Activation}, mountTable.remove(t, n.Namespace, n.Key)
	case gc.Snapshot:
		name, key, _ := strings.Cut(n.Key, "/")
		s, err := db.snapshots(name)
		if err != nil {
			return garbage{}, err
		}
		rec, err := s.table.get(t, n.Namespace, key)
		if err != nil {
			return garbage{}, err
		}
		if s.hasChildren(t, n.Namespace, key) || rec.Labels[label.GCRoot] != "" {
			return garbage{}, errdefs.ErrFailedPrecondition
		}
		return garbage{node: n, id: rec.ID}, s.forget(t, n.Namespace, key)
	}
	return garbage{}, errdefs.ErrNotFound
}

// sweepBytes frees what a deleted record named.
func (db *DB) sweepBytes(ctx context.Context, item garbage) error {
	ctx = context.WithoutCancel(ctx)
	switch n := item.node; n.Type {
	case gc.Content:
		return db.dropBlob(ctx, digest.Digest(n.Key))
	case gc.Ingest:
		err := db.back.Content.Abort(ctx, backendRef(n.Namespace, n.Key))
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	case gc.Mount:
		return (*db.unmount.Load())(namespaces.With(ctx, n.Namespace), item.mount)
	case gc.Snapshot:
		name, _, _ := strings.Cut(n.Key, "/")
		return db.back.Drivers[name].Remove(ctx, item.id)
	}
	return nil
}
