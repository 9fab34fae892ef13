package metadata

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
)

// shareable returns what is known of a blob that another namespace has and that
// ns may use without its bytes; NotFound if there is none. With the policy
// "shared" that is every blob, else those of namespaces that carry
// [label.Shareable].
func (s contentStore) shareable(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	if s.db.cfg.ContentSharing != "shared" {
		if err := s.db.view(func(t *tx) error { return offered(t, dgst) }); err != nil {
			return content.Info{}, err
		}
	}
	return s.db.back.Content.Info(ctx, dgst)
}

// offered reports whether a namespace that shares has the blob.
func offered(t *tx, dgst digest.Digest) error {
	for _, ns := range t.namespaces() {
		if !contentTable.has(t, ns, dgst.String()) {
			continue
		}
		rec, err := namespaceTable.get(t, ns, namespaceKey)
		if err == nil && rec.Labels[label.Shareable] == "true" {
			return nil
		}
	}
	return contentTable.notFound(dgst.String())
}

// sharedWriter is an ingest of a blob that another namespace has: it is complete
// from the beginning, and its commit only gives it a name. What is written beyond
// goes to an ingest of its own, with the blob's bytes copied.
type sharedWriter struct {
	s       contentStore
	ctx     context.Context
	ns, ref string
	info    content.Info
	started time.Time
	own     content.Writer // nil until something else is written
	closed  bool
}

func (w *sharedWriter) Digest() digest.Digest {
	if w.own != nil {
		return w.own.Digest()
	}
	return w.info.Digest
}

func (w *sharedWriter) Status() (content.Status, error) {
	if w.own != nil {
		return w.own.Status()
	}
	return content.Status{Ref: w.ref, Offset: w.info.Size, Total: w.info.Size, Expected: w.info.Digest, Started: w.started, Updated: w.started}, nil
}

func (w *sharedWriter) Write(p []byte) (int, error) {
	if w.own == nil {
		if err := w.leave(true); err != nil {
			return 0, err
		}
	}
	return w.own.Write(p)
}

func (w *sharedWriter) Truncate(size int64) error {
	if w.own == nil {
		if err := w.leave(false); err != nil {
			return err
		}
	}
	return w.own.Truncate(size)
}

// leave goes on with an ingest of its own, with or without the blob's bytes.
func (w *sharedWriter) leave(bytes bool) error {
	if w.closed {
		return fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)
	}
	own, err := w.s.ingest(w.ctx, w.ns, w.ref, "", 0)
	if err != nil {
		return err
	}
	w.own = own
	if err := own.Truncate(0); err != nil || !bytes {
		return err
	}
	r, err := w.s.db.back.Content.ReaderAt(w.ctx, ocispec.Descriptor{Digest: w.info.Digest})
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(own, io.NewSectionReader(r, 0, r.Size()))
	return err
}

func (w *sharedWriter) Commit(ctx context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	if w.own != nil {
		return w.own.Commit(ctx, size, expected, labels)
	}
	defer w.Close()
	if err := label.Validate(labels); err != nil {
		return err
	}
	if size > 0 && size != w.info.Size {
		return fmt.Errorf("ingest %q has %d bytes, expected %d: %w", w.ref, w.info.Size, size, errdefs.ErrFailedPrecondition)
	}
	if expected != "" && expected != w.info.Digest {
		return fmt.Errorf("ingest %q has digest %s, expected %s: %w", w.ref, w.info.Digest, expected, errdefs.ErrFailedPrecondition)
	}
	w.s.db.blobMu.RLock()
	defer w.s.db.blobMu.RUnlock()
	if _, err := w.s.db.back.Content.Info(ctx, w.info.Digest); err != nil {
		return fmt.Errorf("ingest %q: the blob is gone meanwhile: %w", w.ref, err)
	}
	named := &writer{s: w.s, ns: w.ns, ref: w.ref}
	return named.named(ctx, content.Info{Digest: w.info.Digest, Size: w.info.Size, Labels: labels})
}

func (w *sharedWriter) Close() error {
	w.closed = true
	if w.own != nil {
		return w.own.Close()
	}
	return nil
}

// share opens a writer of what another namespace has. It is NotFound if that is
// nothing, or if an ingest of the ref is under way.
func (s contentStore) share(ctx context.Context, ns, ref string, dgst digest.Digest) (content.Writer, error) {
	info, err := s.shareable(ctx, dgst)
	if err != nil {
		return nil, err
	}
	if _, err := s.db.back.Content.Status(ctx, backendRef(ns, ref)); !errdefs.IsNotFound(err) {
		return nil, errors.Join(err, errdefs.ErrNotFound)
	}
	if err := s.noteIngest(ctx, ns, ref, dgst); err != nil {
		return nil, err
	}
	return &sharedWriter{s: s, ctx: namespaces.With(ctx, ns), ns: ns, ref: ref, info: info, started: time.Now().UTC()}, nil
}
