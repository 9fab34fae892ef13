package metadata

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
)

// Finding is one difference between the database and a backend.
type Finding struct {
	// Kind is "orphan" (bytes without a name), "missing" (a name without bytes)
	// or "damaged" (bytes that don't match their digest).
	Kind string
	// What says which, as "blob sha256:…", "ingest …" or "snapshot overlayfs/42".
	What     string
	Repaired bool
}

// Reconcile removes what backends hold without the database naming it: the rest
// of a crash. Call it after Open, before anything is created.
func (db *DB) Reconcile(ctx context.Context) ([]Finding, error) {
	var found []Finding
	var errs []error
	for _, step := range []func(context.Context) ([]Finding, error){db.orphanSnapshots, db.orphanBlobs, db.orphanIngests} {
		f, err := step(ctx)
		found, errs = append(found, f...), append(errs, err)
	}
	return found, errors.Join(errs...)
}

func (db *DB) orphanSnapshots(ctx context.Context) ([]Finding, error) {
	var found []Finding
	var errs []error
	for name, driver := range db.back.Drivers {
		known, err := db.snapshotIDs(name)
		if err != nil {
			return found, err
		}
		ids, err := driver.List(ctx)
		errs = append(errs, err)
		for _, id := range ids {
			if _, ok := known[id]; ok {
				continue
			}
			err := driver.Remove(ctx, id)
			errs = append(errs, err)
			found = append(found, Finding{"orphan", "snapshot " + name + "/" + id, err == nil})
		}
	}
	return found, errors.Join(errs...)
}

// snapshotIDs returns the IDs that the database names, with "<namespace>/<key>".
func (db *DB) snapshotIDs(name string) (map[string]string, error) {
	s, err := db.snapshots(name)
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	return known, db.view(func(t *tx) error {
		for _, ns := range t.namespaces() {
			err := s.table.each(t, ns, func(key string, rec snapshotRecord) error {
				known[rec.ID] = ns + "/" + key
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (db *DB) orphanBlobs(ctx context.Context) ([]Finding, error) {
	var orphans []digest.Digest
	known, err := db.blobs()
	if err != nil {
		return nil, err
	}
	err = db.back.Content.Walk(ctx, func(info content.Info) error {
		if !known[info.Digest] {
			orphans = append(orphans, info.Digest)
		}
		return nil
	})
	var found []Finding
	errs := []error{err}
	for _, dgst := range orphans {
		err := db.dropBlob(ctx, dgst)
		errs = append(errs, err)
		found = append(found, Finding{"orphan", "blob " + dgst.String(), err == nil})
	}
	return found, errors.Join(errs...)
}

// blobs returns the digests that some namespace names.
func (db *DB) blobs() (map[digest.Digest]bool, error) {
	known := map[digest.Digest]bool{}
	return known, db.view(func(t *tx) error {
		for _, ns := range t.namespaces() {
			err := contentTable.each(t, ns, func(key string, _ content.Info) error {
				known[digest.Digest(key)] = true
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (db *DB) orphanIngests(ctx context.Context) ([]Finding, error) {
	all, err := db.back.Content.ListStatuses(ctx)
	if err != nil {
		return nil, err
	}
	var found []Finding
	var errs []error
	for _, st := range all {
		ns, ref, _ := strings.Cut(st.Ref, "/")
		var known bool
		errs = append(errs, db.view(func(t *tx) error {
			known = ingestTable.has(t, ns, ref)
			return nil
		}))
		if known {
			continue
		}
		err := db.back.Content.Abort(ctx, st.Ref)
		errs = append(errs, err)
		found = append(found, Finding{"orphan", "ingest " + st.Ref, err == nil})
	}
	return found, errors.Join(errs...)
}

// Check compares the database with the backends and verifies every blob's
// digest, telling fn of each difference. It changes nothing. Things that are
// being made meanwhile may show as orphans; run it again to be sure.
func (db *DB) Check(ctx context.Context, fn func(Finding) error) error {
	if err := db.checkBlobs(ctx, fn); err != nil {
		return err
	}
	for name, driver := range db.back.Drivers {
		if err := db.checkSnapshots(ctx, name, driver.List, fn); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) checkBlobs(ctx context.Context, fn func(Finding) error) error {
	known, err := db.blobs()
	if err != nil {
		return err
	}
	for dgst := range known {
		if f, bad := db.checkBlob(ctx, dgst); bad {
			if err := fn(f); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return db.back.Content.Walk(ctx, func(info content.Info) error {
		if known[info.Digest] {
			return nil
		}
		return fn(Finding{Kind: "orphan", What: "blob " + info.Digest.String()})
	})
}

func (db *DB) checkBlob(ctx context.Context, dgst digest.Digest) (Finding, bool) {
	err := content.Verify(ctx, db.back.Content, dgst)
	what := "blob " + dgst.String()
	switch {
	case err == nil:
		return Finding{}, false
	case errdefs.IsNotFound(err):
		return Finding{Kind: "missing", What: what}, true
	default:
		return Finding{Kind: "damaged", What: fmt.Sprintf("%s: %v", what, err)}, true
	}
}

func (db *DB) checkSnapshots(ctx context.Context, name string, list func(context.Context) ([]string, error), fn func(Finding) error) error {
	known, err := db.snapshotIDs(name)
	if err != nil {
		return err
	}
	ids, err := list(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := known[id]; !ok {
			if err := fn(Finding{Kind: "orphan", What: "snapshot " + name + "/" + id}); err != nil {
				return err
			}
		}
		delete(known, id)
	}
	for id, key := range known {
		if err := fn(Finding{Kind: "missing", What: "snapshot " + name + "/" + id + " (" + key + ")"}); err != nil {
			return err
		}
	}
	return nil
}
