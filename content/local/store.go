// Package local is the content store on a local file system:
//
//	blobs/<algorithm>/<hex>          the blobs, mode 0444
//	ingest/<sha256 of ref>/data      bytes of an ingest
//	ingest/<sha256 of ref>/ref.json  its ref and expectations
//
// A blob appears by rename of a synced file, followed by a sync of its folder;
// so what stands under blobs is whole. An ingest is never synced before its
// commit: after a power cut it may be short, never wrong, because a resumed
// writer hashes what is there. Deletion is an unlink; a second one is NotFound.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
	"github.com/orlop/orlop/core/filter"
)

// Store is a content.Store without labels. Only one process may use a root.
type Store struct {
	*ingest.Folders // its ingests: Writer, Status, ListStatuses, Abort, TornIngests, DropTorn

	root string

	mu sync.Mutex
	// parked are hashes of ingests that have no writer, by ref.
	parked map[string]parked
}

var (
	_ content.Store  = (*Store)(nil)
	_ content.Mender = (*Store)(nil)
)

// Open prepares root and returns its store. Ingests that a crash left torn are gone.
func Open(root string) (*Store, error) {
	s := &Store{root: root}
	err := os.MkdirAll(filepath.Join(root, "blobs"), 0o700)
	if err == nil {
		s.Folders, err = ingest.Open(root, ingest.Backend{Has: s.has, Stat: stat, Open: s.writer})
	}
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	return s, nil
}

// Path returns where the blob of a valid digest is or would be.
func (s *Store) Path(dgst digest.Digest) string {
	return filepath.Join(s.root, "blobs", dgst.Algorithm().String(), dgst.Encoded())
}

func (s *Store) path(dgst digest.Digest) (string, error) {
	if err := dgst.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w: %w", dgst, err, errdefs.ErrInvalidArgument)
	}
	return s.Path(dgst), nil
}

// ReaderAt opens a blob.
func (s *Store) ReaderAt(_ context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	path, err := s.path(desc.Digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, classify("blob "+desc.Digest.String(), err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &reader{f, fi.Size()}, nil
}

// reader is an open blob; *os.File shows through, so that sendfile(2) works.
type reader struct {
	*os.File
	size int64
}

func (r *reader) Size() int64 { return r.size }

// Info returns a blob's size and times.
func (s *Store) Info(_ context.Context, dgst digest.Digest) (content.Info, error) {
	path, err := s.path(dgst)
	if err != nil {
		return content.Info{}, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return content.Info{}, classify("blob "+dgst.String(), err)
	}
	return info(dgst, fi), nil
}

func info(dgst digest.Digest, fi fs.FileInfo) content.Info {
	return content.Info{Digest: dgst, Size: fi.Size(), Created: fi.ModTime(), Updated: fi.ModTime()}
}

// Update is refused: this store keeps no labels.
func (s *Store) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, fmt.Errorf("the local content store keeps no labels, metadata does: %w", errdefs.ErrFailedPrecondition)
}

// Walk visits the blobs, in no order.
func (s *Store) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	f, err := filter.Parse(filters...)
	if err != nil {
		return err
	}
	blobs := filepath.Join(s.root, "blobs")
	return filepath.WalkDir(blobs, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		dgst := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(path))), d.Name())
		if dgst.Validate() != nil {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		in := info(dgst, fi)
		if !f.Match(in.Field) {
			return nil
		}
		return fn(in)
	})
}

// Delete unlinks a blob.
func (s *Store) Delete(_ context.Context, dgst digest.Digest) error {
	path, err := s.path(dgst)
	if err != nil {
		return err
	}
	return classify("blob "+dgst.String(), os.Remove(path))
}

// classify gives file system errors the class that clients see.
func classify(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", what, errdefs.ErrNotFound)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: no room on the disk: %w: %w", what, err, errdefs.ErrResourceExhausted)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: %w: %w", what, err, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
