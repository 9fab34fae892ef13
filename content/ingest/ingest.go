// Package ingest keeps the ingests of a content store that has a folder for each:
//
//	ingest/<sha256 of ref>/ref.json   its [Note]
//
// What else is in a folder is the store's, which says by a [Backend] what it means. The
// first writer of a ref makes the folder; it stays when that is closed, and goes with a
// commit or an abort. One whose note can't be read, or that lacks what the store needs
// beside it, is torn: a crash left it. Lists pass it over, and [Open] removes it.
//
// All methods of [Folders] are safe for concurrent use, a [Lock] is for the goroutine of
// its writer.
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
)

// maxRef bounds the name of an ingest, in bytes.
const maxRef = 4096

// Backend is what differs from store to store.
type Backend struct {
	// Has reports whether a blob is there; one that is isn't written again.
	Has func(ctx context.Context, dgst digest.Digest) (bool, error)
	// Stat returns where the ingest in a folder stands; a torn one is fs.ErrNotExist.
	Stat func(dir string) (content.Status, error)
	// Open opens or resumes an ingest. The lock is its writer's, if there is no error.
	Open func(ctx context.Context, l *Lock, opts content.WriterOptions) (content.Writer, error)
	// Forget drops what an ingest that is aborted has outside of its folder; nil is nothing.
	Forget func(ctx context.Context, l *Lock) error
}

// Folders are the ingests of one store.
type Folders struct {
	root    string
	backend Backend

	mu   sync.Mutex
	open map[string]*Lock // by the folder's name
}

// Open prepares the folder ingest below root. Ingests that a crash left torn are gone.
func Open(root string, b Backend) (*Folders, error) {
	f := &Folders{root: filepath.Join(root, "ingest"), backend: b, open: map[string]*Lock{}}
	if err := os.MkdirAll(f.root, 0o700); err != nil {
		return nil, err
	}
	torn, err := f.TornIngests(context.Background())
	for _, name := range torn {
		err = errors.Join(err, f.DropTorn(context.Background(), name))
	}
	return f, err
}

// folder names the folder of an ingest.
func folder(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return hex.EncodeToString(sum[:])
}

// IngestDirs visits the folders, in no order, until ctx ends.
func (f *Folders) IngestDirs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		dirs, err := os.ReadDir(f.root)
		if err != nil {
			yield("", err)
			return
		}
		for _, d := range dirs {
			if !yield(filepath.Join(f.root, d.Name()), ctx.Err()) {
				return
			}
		}
	}
}

// Writer opens or resumes the ingest of opts.Ref.
func (f *Folders) Writer(ctx context.Context, opts content.WriterOptions) (content.Writer, error) {
	if opts.Ref == "" || len(opts.Ref) > maxRef {
		return nil, fmt.Errorf("ingest ref must have 1 to %d bytes, has %d: %w", maxRef, len(opts.Ref), errdefs.ErrInvalidArgument)
	}
	if want := opts.Descriptor.Digest; want != "" {
		has, err := f.backend.Has(ctx, want)
		if err != nil {
			return nil, err
		}
		if has {
			return nil, fmt.Errorf("blob %s: %w", want, errdefs.ErrAlreadyExists)
		}
	}
	l := f.lock(opts.Ref)
	if l == nil {
		return nil, fmt.Errorf("ingest %q has a writer already: %w", opts.Ref, errdefs.ErrUnavailable)
	}
	w, err := f.backend.Open(ctx, l, opts)
	if err != nil {
		l.release()
	}
	return w, err
}

// Status returns where one ingest stands.
func (f *Folders) Status(_ context.Context, ref string) (content.Status, error) {
	st, err := f.status(filepath.Join(f.root, folder(ref)))
	return st, classify(ref, err)
}

func (f *Folders) status(dir string) (content.Status, error) {
	st, err := f.backend.Stat(dir)
	if err != nil {
		return content.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.open[filepath.Base(dir)]; l != nil && l.updated.Load() != 0 {
		st.Updated = l.LastWrite()
	}
	return st, nil
}

// ListStatuses returns the ingests, in no order. Torn ones are passed over; opening
// their ref again starts them anew.
func (f *Folders) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	match, err := filter.Parse(filters...)
	if err != nil {
		return nil, err
	}
	var out []content.Status
	for dir, err := range f.IngestDirs(ctx) {
		if err != nil {
			return nil, err
		}
		st, err := f.status(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if match.Match(st.Field) {
			out = append(out, st)
		}
	}
	return out, nil
}

// Abort drops an ingest. One that is being written is Unavailable. If what the backend
// has of it can't be removed, its folder stays, and Abort can be called again.
func (f *Folders) Abort(ctx context.Context, ref string) error {
	l := f.lock(ref)
	if l == nil {
		return fmt.Errorf("ingest %q is being written: %w", ref, errdefs.ErrUnavailable)
	}
	defer l.release()
	if _, err := os.Stat(l.Dir); err != nil {
		return classify(ref, err)
	}
	if f.backend.Forget != nil {
		if err := f.backend.Forget(ctx, l); err != nil {
			return err
		}
	}
	return os.RemoveAll(l.Dir)
}

// classify gives errors of the file system the class that clients see.
func classify(ref string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = errdefs.ErrNotFound
	}
	return fmt.Errorf("ingest %q: %w", ref, err)
}
