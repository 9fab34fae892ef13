package metadata

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/snapshotters"
)

// Inventory is all that the database names, over all namespaces, at one moment.
// It is what a check compares the backends with.
type Inventory struct {
	Blobs []NamedBlob
	// Ingests are the refs by which the content backend knows them.
	Ingests map[string]bool
	// Snapshots by snapshotter.
	Snapshots map[string][]NamedSnapshot
	// Dangling are references to what isn't there. Ingests and what their owners
	// expect are left out: the blob is on its way.
	Dangling []Reference
}

// NamedBlob is a blob as one namespace knows it.
type NamedBlob struct {
	Namespace string
	Info      content.Info
}

// NamedSnapshot is a snapshot and the ID of its bytes.
type NamedSnapshot struct {
	Namespace, ID string
	Info          snapshotters.Info
}

// Reference is a reference between two nodes.
type Reference struct{ From, To gc.Node }

// Inventory reads everything in one transaction. What is being written waits for
// nothing; a hundred thousand snapshots take some 100 MB while it runs.
func (db *DB) Inventory() (Inventory, error) {
	inv := Inventory{Ingests: map[string]bool{}, Snapshots: map[string][]NamedSnapshot{}}
	err := db.view(func(t *tx) error {
		for _, ns := range t.namespaces() {
			if err := db.inventoryOf(t, ns, &inv); err != nil {
				return err
			}
		}
		return db.dangling(t, &inv)
	})
	return inv, err
}

func (db *DB) inventoryOf(t *tx, ns string, inv *Inventory) error {
	err := contentTable.each(t, ns, func(_ string, info content.Info) error {
		inv.Blobs = append(inv.Blobs, NamedBlob{ns, info})
		return nil
	})
	if err != nil {
		return err
	}
	err = ingestTable.each(t, ns, func(key string, _ ingestRecord) error {
		inv.Ingests[backendRef(ns, key)] = true
		return nil
	})
	if err != nil {
		return err
	}
	for name := range db.back.Drivers {
		s, err := db.snapshots(name)
		if err != nil {
			return err
		}
		err = s.table.each(t, ns, func(_ string, rec snapshotRecord) error {
			inv.Snapshots[name] = append(inv.Snapshots[name], NamedSnapshot{ns, rec.ID, rec.Info})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dangling collects the references whose end isn't there.
func (db *DB) dangling(t *tx, inv *Inventory) error {
	g, err := db.scan(t, time.Now())
	if err != nil {
		return err
	}
	for from, refs := range g.edges {
		if from.Type == gc.Ingest || !db.exists(t, from) {
			continue
		}
		for _, to := range refs {
			to.Flat = false
			if !db.exists(t, to) {
				inv.Dangling = append(inv.Dangling, Reference{from, to})
			}
		}
	}
	return nil
}

// exists reports whether a node has a record. Snapshots of snapshotters that
// this daemon doesn't run are taken to exist: nothing is known of them.
func (db *DB) exists(t *tx, n gc.Node) bool {
	switch n.Type {
	case gc.Content:
		return contentTable.has(t, n.Namespace, n.Key)
	case gc.Image:
		return imageTable.has(t, n.Namespace, n.Key)
	case gc.Container:
		return containerTable.has(t, n.Namespace, n.Key)
	case gc.Sandbox:
		return sandboxTable.has(t, n.Namespace, n.Key)
	case gc.Lease:
		return leaseTable.has(t, n.Namespace, n.Key)
	case gc.Mount:
		return mountTable.has(t, n.Namespace, n.Key)
	case gc.Ingest:
		return ingestTable.has(t, n.Namespace, n.Key)
	case gc.Snapshot:
		name, key, _ := strings.Cut(n.Key, "/")
		s, err := db.snapshots(name)
		return err != nil || s.table.has(t, n.Namespace, key)
	}
	return true
}

// DropBlob removes a blob's bytes if no namespace names it; else it is
// FailedPrecondition.
func (db *DB) DropBlob(ctx context.Context, dgst digest.Digest) error {
	known, err := db.blobs()
	if err != nil {
		return err
	}
	if known[dgst] {
		return fmt.Errorf("blob %s has a name by now: %w", dgst, errdefs.ErrFailedPrecondition)
	}
	return db.dropBlob(ctx, dgst)
}

// DropSnapshotBytes removes what a driver holds under an ID that the database
// doesn't name. An ID that was given out since the database was opened may
// belong to a snapshot that is being made, and is refused as FailedPrecondition.
func (db *DB) DropSnapshotBytes(ctx context.Context, snapshotter, id string) error {
	d, ok := db.back.Drivers[snapshotter]
	if !ok {
		return fmt.Errorf("snapshotter %q: %w", snapshotter, errdefs.ErrNotFound)
	}
	if !db.madeBefore(id) {
		return fmt.Errorf("snapshot ID %s is younger than this daemon, so it may be in use; it is removed at the next start otherwise: %w", id, errdefs.ErrFailedPrecondition)
	}
	known, err := db.snapshotIDs(snapshotter)
	if err != nil {
		return err
	}
	if name, ok := known[id]; ok {
		return fmt.Errorf("snapshot ID %s has a name by now, %s: %w", id, name, errdefs.ErrFailedPrecondition)
	}
	return d.Remove(ctx, id)
}

// madeBefore reports whether an ID was given out before the database was opened.
func (db *DB) madeBefore(id string) bool {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return true // no ID of ours
	}
	db.ids.mu.Lock()
	defer db.ids.mu.Unlock()
	return db.ids.first == 0 || n < db.ids.first
}
