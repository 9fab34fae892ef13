package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
)

// ingestRecord names an ingest of the backend.
type ingestRecord struct {
	Ref      string
	Expected digest.Digest `json:",omitempty"`
	Expires  time.Time     // until when it stays by itself; zero where a lease holds it
}

var ingestTable = table[ingestRecord]{name: "ingests", noun: "ingest"}

// ingestLife is how long an abandoned ingest is kept for its writer to resume;
// it is containerd's.
const ingestLife = 24 * time.Hour

// backendRef keeps the namespaces' refs apart in the backend.
func backendRef(ns, ref string) string { return ns + "/" + ref }

func (s contentStore) Writer(ctx context.Context, opts content.WriterOptions) (content.Writer, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	if opts.Ref == "" {
		return nil, fmt.Errorf("ingest ref is empty: %w", errdefs.ErrInvalidArgument)
	}
	expected := opts.Descriptor.Digest
	if expected != "" {
		if err := expected.Validate(); err != nil {
			return nil, fmt.Errorf("ingest %q: digest %q: %w: %w", opts.Ref, expected, err, errdefs.ErrInvalidArgument)
		}
		if _, err := s.lookup(ctx, expected); err == nil {
			return nil, errors.Join(fmt.Errorf("blob %s: %w", expected, errdefs.ErrAlreadyExists), s.record(ctx, ns, content.Info{Digest: expected}))
		}
		w, err := s.share(ctx, ns, opts.Ref, expected)
		if !errdefs.IsNotFound(err) {
			return w, err
		}
	}
	return s.ingest(ctx, ns, opts.Ref, expected, opts.Descriptor.Size)
}

// ingest opens or resumes an ingest of the backend.
func (s contentStore) ingest(ctx context.Context, ns, ref string, expected digest.Digest, total int64) (content.Writer, error) {
	if err := s.noteIngest(ctx, ns, ref, expected); err != nil {
		return nil, err
	}
	w, err := s.db.back.Content.Writer(ctx, content.WriterOptions{Ref: backendRef(ns, ref), Descriptor: ocispec.Descriptor{Size: total}})
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, s: s, ns: ns, ref: ref, expected: expected}, nil
}

// noteIngest records the ingest; one that is under way just lives on. With a lease
// it lives as long as that does, else for a day.
func (s contentStore) noteIngest(ctx context.Context, ns, ref string, expected digest.Digest) error {
	rec := ingestRecord{Ref: ref, Expected: expected}
	if _, leased := lease.From(ctx); !leased {
		rec.Expires = time.Now().Add(ingestLife).UTC()
	}
	return s.db.update(func(t *tx) error {
		t.touch(gc.Node{Type: gc.Ingest, Namespace: ns, Key: ref})
		if err := ingestTable.put(t, ns, ref, rec); err != nil {
			return err
		}
		return t.hold(ctx, ns, "ingests", ref)
	})
}

// forgetIngest removes the record and the lease's hold on it.
func forgetIngest(ctx context.Context, t *tx, ns, ref string) error {
	if l, ok := lease.From(ctx); ok {
		key := resourceKey(l, lease.Resource{ID: ref, Type: "ingests"})
		if resourceTable.has(t, ns, key) {
			if err := resourceTable.remove(t, ns, key); err != nil {
				return err
			}
		}
	}
	return ingestTable.remove(t, ns, ref)
}

// writer names the blob when the backend has it.
type writer struct {
	content.Writer
	s        contentStore
	ns, ref  string
	expected digest.Digest
}

func (w *writer) Status() (content.Status, error) {
	st, err := w.Writer.Status()
	st.Ref, st.Expected = w.ref, w.expected
	return st, err
}

func (w *writer) Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	if err := label.Validate(labels); err != nil {
		return err
	}
	if expected == "" {
		expected = w.expected
	}
	st, err := w.Writer.Status()
	if err != nil {
		return err
	}
	if expected == "" {
		expected = w.Digest()
	}
	w.s.db.blobMu.RLock()
	defer w.s.db.blobMu.RUnlock()
	if err := w.Writer.Commit(ctx, size, expected, nil); err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return w.named(ctx, content.Info{Digest: expected, Size: st.Offset, Labels: labels})
}

// named names the blob and tells of it.
func (w *writer) named(ctx context.Context, info content.Info) error {
	if err := w.name(ctx, info); err != nil {
		return err
	}
	return w.s.db.publish(namespaces.With(ctx, w.ns), "/content/create", &events.ContentCreate{Digest: info.Digest.String(), Size: info.Size})
}

func (w *writer) name(ctx context.Context, info content.Info) error {
	info.Created = time.Now().UTC()
	info.Updated = info.Created
	var there bool
	err := w.s.db.update(func(t *tx) error {
		t.touch(contentNode(w.ns, info.Digest))
		if err := forgetIngest(ctx, t, w.ns, w.ref); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if there = contentTable.has(t, w.ns, info.Digest.String()); !there {
			if err := contentTable.put(t, w.ns, info.Digest.String(), info); err != nil {
				return err
			}
		}
		return t.hold(ctx, w.ns, "content", info.Digest.String())
	})
	if err == nil && there {
		return fmt.Errorf("blob %s: %w", info.Digest, errdefs.ErrAlreadyExists)
	}
	return err
}

func (s contentStore) Status(ctx context.Context, ref string) (content.Status, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return content.Status{}, err
	}
	var rec ingestRecord
	err = s.db.view(func(t *tx) error {
		rec, err = ingestTable.get(t, ns, ref)
		return err
	})
	if err != nil {
		return content.Status{}, err
	}
	return s.status(ctx, ns, rec)
}

func (s contentStore) status(ctx context.Context, ns string, rec ingestRecord) (content.Status, error) {
	st, err := s.db.back.Content.Status(ctx, backendRef(ns, rec.Ref))
	if errdefs.IsNotFound(err) {
		return st, ingestTable.notFound(rec.Ref)
	}
	st.Ref, st.Expected = rec.Ref, rec.Expected
	return st, err
}

func (s contentStore) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	f, err := filter.Parse(filters...)
	if err != nil {
		return nil, err
	}
	recs, err := ingestTable.list(s.db, ns, nil, func(ingestRecord) filter.Adaptor { return nil })
	if err != nil {
		return nil, err
	}
	var out []content.Status
	for _, rec := range recs {
		st, err := s.status(ctx, ns, rec)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Match(st.Field) {
			out = append(out, st)
		}
	}
	return out, nil
}

func (s contentStore) Abort(ctx context.Context, ref string) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(func(t *tx) error { return forgetIngest(ctx, t, ns, ref) })
	if err != nil {
		return err
	}
	err = s.db.back.Content.Abort(ctx, backendRef(ns, ref))
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
