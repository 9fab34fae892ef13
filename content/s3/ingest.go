package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
)

// maxRef bounds the name of an ingest, in bytes.
const maxRef = 4096

func refName(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:])
}

func (s *Store) dir(ref string) string { return filepath.Join(s.root, "ingest", refName(ref)) }

func (s *Store) lock(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.open[ref]; busy {
		return false
	}
	s.open[ref] = nil
	return true
}

func (s *Store) unlock(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, ref)
}

// Writer opens or resumes the ingest of opts.Ref.
func (s *Store) Writer(ctx context.Context, opts content.WriterOptions) (content.Writer, error) {
	if opts.Ref == "" || len(opts.Ref) > maxRef {
		return nil, fmt.Errorf("ingest ref must have 1 to %d bytes, has %d: %w", maxRef, len(opts.Ref), errdefs.ErrInvalidArgument)
	}
	if want := opts.Descriptor.Digest; want != "" {
		if _, err := s.Info(ctx, want); err == nil {
			return nil, fmt.Errorf("blob %s: %w", want, errdefs.ErrAlreadyExists)
		} else if !errdefs.IsNotFound(err) {
			return nil, err
		}
	}
	if !s.lock(opts.Ref) {
		return nil, fmt.Errorf("ingest %q has a writer already: %w", opts.Ref, errdefs.ErrUnavailable)
	}
	w, err := s.openIngest(ctx, opts)
	if err != nil {
		s.unlock(opts.Ref)
		return nil, fmt.Errorf("ingest %q: %w", opts.Ref, err)
	}
	s.mu.Lock()
	s.open[opts.Ref] = w
	s.mu.Unlock()
	return w, nil
}

func (s *Store) openIngest(ctx context.Context, opts content.WriterOptions) (*writer, error) {
	dir := s.dir(opts.Ref)
	n, err := loadNote(dir)
	if errors.Is(err, fs.ErrNotExist) {
		n, err = newNote(dir, opts)
	}
	if err != nil {
		return nil, err
	}
	if total := opts.Descriptor.Size; total > 0 {
		if n.Total > 0 && n.Total != total {
			return nil, fmt.Errorf("resumed with total %d, begun with %d: %w", total, n.Total, errdefs.ErrInvalidArgument)
		}
		n.Total = total
	}
	if err := n.dropOld(dir); err != nil {
		return nil, err
	}
	w := &writer{s: s, ctx: context.WithoutCancel(ctx), dir: dir, note: n}
	return w, w.resume()
}

// newNote begins an ingest in place of what a torn note left.
func newNote(dir string, opts content.WriterOptions) (*note, error) {
	n := &note{Ref: opts.Ref, Total: opts.Descriptor.Size, Expected: opts.Descriptor.Digest, Started: time.Now().UTC(), Algorithm: digest.Canonical}
	if n.Expected != "" {
		n.Algorithm = n.Expected.Algorithm()
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return n, n.save(dir)
}

// resume opens the file of the part that is being filled, and hashes what it holds:
// what is on the disk counts, not what was meant.
func (w *writer) resume() (err error) {
	if w.hash, err = w.note.digester(); err != nil {
		return err
	}
	if w.f, err = os.OpenFile(w.note.next(w.dir), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if w.held, err = io.Copy(w.hash.Hash(), w.f); err != nil {
		return errors.Join(err, w.f.Close())
	}
	w.sent = w.note.sent()
	w.touched(w.note.Started)
	if fi, err := w.f.Stat(); err == nil && fi.ModTime().After(w.note.Started) {
		w.touched(fi.ModTime())
	}
	return nil
}

// Status returns where an ingest stands.
func (s *Store) Status(_ context.Context, ref string) (content.Status, error) {
	st, err := s.statusIn(s.dir(ref))
	if errors.Is(err, fs.ErrNotExist) {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return st, fmt.Errorf("ingest %q: %w", ref, err)
	}
	return st, nil
}

func (s *Store) statusIn(dir string) (content.Status, error) {
	n, err := loadNote(dir)
	if err != nil {
		return content.Status{}, err
	}
	offset, updated, err := n.offset(dir)
	if err != nil {
		return content.Status{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.open[n.Ref]; w != nil {
		updated = w.lastWrite()
	}
	return n.status(offset, updated), nil
}

// ListStatuses returns the ingests, in no order. Torn ones are passed over.
func (s *Store) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	f, err := filter.Parse(filters...)
	if err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(filepath.Join(s.root, "ingest"))
	if err != nil {
		return nil, err
	}
	var out []content.Status
	for _, d := range dirs {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		st, err := s.statusIn(filepath.Join(s.root, "ingest", d.Name()))
		if errors.Is(err, fs.ErrNotExist) {
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

// Abort drops an ingest, with the parts that the server has. If those can't be
// removed, the ingest stays on this machine and Abort can be called again.
func (s *Store) Abort(ctx context.Context, ref string) error {
	if !s.lock(ref) {
		return fmt.Errorf("ingest %q is being written: %w", ref, errdefs.ErrUnavailable)
	}
	defer s.unlock(ref)
	dir := s.dir(ref)
	n, err := loadNote(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("ingest %q: %w", ref, errdefs.ErrNotFound)
		}
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	if err := s.forget(ctx, n); err != nil {
		return fmt.Errorf("ingest %q: %w", ref, err)
	}
	return os.RemoveAll(dir)
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
