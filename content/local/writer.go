package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
	"github.com/orlop/orlop/internal/safefile"
)

// writer is an open ingest. It holds the ref until Close or Commit.
type writer struct {
	*ingest.Lock
	s      *Store
	f      *os.File // nil once closed
	note   ingest.Note
	hash   digest.Digester
	offset int64
}

var errClosed = fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)

func (w *writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errClosed
	}
	n, err := w.f.Write(p)
	w.hash.Hash().Write(p[:n])
	w.offset += int64(n)
	w.Touch(time.Now())
	return n, classify(fmt.Sprintf("ingest %q", w.Ref), err)
}

func (w *writer) Digest() digest.Digest { return w.hash.Digest() }

func (w *writer) Status() (content.Status, error) {
	return w.note.Status(w.offset, w.LastWrite()), nil
}

func (w *writer) Close() error {
	if w.f == nil {
		return nil
	}
	err := w.Leave(w.f, func() { w.s.park(w) })
	w.f = nil
	return err
}

func (w *writer) Truncate(size int64) error {
	if w.f == nil {
		return errClosed
	}
	if size != 0 {
		return fmt.Errorf("ingest %q can only be truncated to 0, not %d: %w", w.Ref, size, errdefs.ErrInvalidArgument)
	}
	if w.offset == 0 {
		return nil
	}
	w.hash.Hash().Reset()
	w.offset = 0
	w.Touch(time.Now())
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return w.f.Truncate(0)
}

// Commit checks, syncs, renames. A failed check keeps the ingest and closes the
// writer, as clients of this port expect.
func (w *writer) Commit(_ context.Context, size int64, expected digest.Digest, _ map[string]string) error {
	if w.f == nil {
		return errClosed
	}
	defer w.Close()
	got := w.hash.Digest()
	if expected != "" && expected.Algorithm() != got.Algorithm() {
		var err error
		if got, err = w.rehash(expected.Algorithm()); err != nil {
			return err
		}
	}
	if size > 0 && size != w.offset {
		return fmt.Errorf("ingest %q has %d bytes, expected %d: %w", w.Ref, w.offset, size, errdefs.ErrFailedPrecondition)
	}
	if expected != "" && expected != got {
		return fmt.Errorf("ingest %q has digest %s, expected %s: %w", w.Ref, got, expected, errdefs.ErrFailedPrecondition)
	}
	return w.publish(got)
}

// rehash reads the data again for an algorithm that was not foreseen.
func (w *writer) rehash(alg digest.Algorithm) (digest.Digest, error) {
	if !alg.Available() {
		return "", fmt.Errorf("digest algorithm %q is not supported: %w", alg, errdefs.ErrInvalidArgument)
	}
	return alg.FromReader(io.NewSectionReader(w.f, 0, w.offset))
}

func (w *writer) publish(dgst digest.Digest) error {
	target := w.s.Path(dgst)
	if _, err := os.Stat(target); err == nil {
		return errors.Join(fmt.Errorf("blob %s: %w", dgst, errdefs.ErrAlreadyExists), os.RemoveAll(w.Dir))
	}
	what := "blob " + dgst.String()
	if err := w.f.Sync(); err != nil {
		return classify(what, err)
	}
	if err := w.f.Chmod(0o444); err != nil {
		return classify(what, err)
	}
	if err := ensureDir(filepath.Dir(target)); err != nil {
		return classify(what, err)
	}
	if err := os.Rename(filepath.Join(w.Dir, "data"), target); err != nil {
		return classify(what, err)
	}
	if err := safefile.SyncDir(filepath.Dir(target)); err != nil {
		return classify(what, err)
	}
	return os.RemoveAll(w.Dir)
}

// ensureDir makes an algorithm's folder the first time, durably.
func ensureDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return safefile.SyncDir(filepath.Dir(dir))
}
