package metadata

import (
	"context"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/snapshotters"
)

// Finding is one difference between the database and a backend.
type Finding struct {
	// Kind is "orphan": bytes without a name.
	Kind string
	// What says which, as "blob sha256:…", "ingest …" or "snapshot overlayfs/42".
	What     string
	Repaired bool
}

// Reconcile removes what backends hold without the database naming it, and makes
// active snapshots anew that a power cut took: the rest of a crash. Call it after
// Open, before anything is created.
func (db *DB) Reconcile(ctx context.Context) ([]Finding, error) {
	var found []Finding
	var errs []error
	for _, step := range []func(context.Context) ([]Finding, error){db.orphanSnapshots, db.lostSnapshots, db.orphanBlobs, db.orphanIngests} {
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

// lostSnapshots makes active snapshots and views anew whose directories are gone.
// They are named without waiting for the disk, which would be on the way of every
// start of a container; so a power cut can take one that is some seconds old, but
// none in which anything was synced. Lost committed snapshots are left to Check.
func (db *DB) lostSnapshots(ctx context.Context) ([]Finding, error) {
	var found []Finding
	var errs []error
	for name, driver := range db.back.Drivers {
		s, err := db.snapshots(name)
		if err != nil {
			return found, err
		}
		ids, err := driver.List(ctx)
		if err != nil {
			return found, err
		}
		lost, err := s.activeWithout(ids)
		errs = append(errs, err)
		for _, l := range lost {
			st, err := s.storage(l.namespace, l.rec)
			if err == nil {
				_, err = driver.Create(ctx, st)
			}
			errs = append(errs, err)
			found = append(found, Finding{"missing", "snapshot " + name + "/" + l.rec.ID + " (" + l.namespace + "/" + l.rec.Name + ")", err == nil})
		}
	}
	return found, errors.Join(errs...)
}

// namedSnapshot is a snapshot's record and whose it is.
type namedSnapshot struct {
	namespace string
	rec       snapshotRecord
}

// activeWithout returns the snapshots that aren't committed and not among ids.
func (s *snapshots) activeWithout(ids []string) ([]namedSnapshot, error) {
	have := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		have[id] = struct{}{}
	}
	var lost []namedSnapshot
	err := s.db.view(func(t *tx) error {
		for _, ns := range t.namespaces() {
			err := s.table.each(t, ns, func(_ string, rec snapshotRecord) error {
				if _, ok := have[rec.ID]; !ok && rec.Kind != snapshotters.KindCommitted {
					lost = append(lost, namedSnapshot{ns, rec})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return lost, err
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
