package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
)

// has reports whether a blob is there.
func (s *Store) has(ctx context.Context, dgst digest.Digest) (bool, error) {
	_, err := s.Info(ctx, dgst)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) writer(ctx context.Context, l *ingest.Lock, opts content.WriterOptions) (content.Writer, error) {
	w := &writer{Lock: l, s: s, ctx: context.WithoutCancel(ctx)}
	if err := w.open(opts); err != nil {
		return nil, w.named(err)
	}
	return w, nil
}

func (w *writer) open(opts content.WriterOptions) (err error) {
	w.note, err = loadNote(w.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		w.note = newNote(opts)
		err = w.Create(w.note)
	}
	if err != nil {
		return err
	}
	if err := w.note.Expect(opts.Descriptor.Size); err != nil {
		return err
	}
	if err := w.note.dropOld(w.Dir); err != nil {
		return err
	}
	return w.resume()
}

func newNote(opts content.WriterOptions) *note {
	n := &note{Note: ingest.NewNote(opts), Algorithm: digest.Canonical}
	if n.Expected != "" {
		n.Algorithm = n.Expected.Algorithm()
	}
	return n
}

// resume opens the file of the part that is being filled, and hashes what it holds:
// what is on the disk counts, not what was meant.
func (w *writer) resume() (err error) {
	if w.hash, err = w.note.digester(); err != nil {
		return err
	}
	if w.f, err = os.OpenFile(w.note.next(w.Dir), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if w.held, err = io.Copy(w.hash.Hash(), w.f); err != nil {
		return errors.Join(err, w.f.Close())
	}
	w.sent = w.note.sent()
	w.Recall(w.f, w.note.Started)
	return nil
}

// abort removes what the server has of the ingest in a folder.
func (s *Store) abort(ctx context.Context, l *ingest.Lock) error {
	n, err := loadNote(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return wrap(fmt.Sprintf("ingest %q", l.Ref), s.forget(ctx, n))
}

// forget removes what the server has of an ingest.
func (s *Store) forget(ctx context.Context, n *note) error {
	if n.Upload == "" {
		return nil
	}
	ctx, cancel := s.small(ctx)
	defer cancel()
	what := "parts of an ingest"
	err := classify(what, s.core.AbortMultipartUpload(ctx, s.cfg.Bucket, n.Object, n.Upload))
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err != nil { // it may have been completed, and not copied
		return classify(what, s.core.RemoveObject(ctx, s.cfg.Bucket, n.Object, minio.RemoveObjectOptions{}))
	}
	return nil
}
