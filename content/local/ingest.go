package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/ingest"
)

// has reports whether a blob is there. What else is wrong shows at the commit.
func (s *Store) has(_ context.Context, dgst digest.Digest) (bool, error) {
	path, err := s.path(dgst)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	return err == nil, nil
}

// stat returns where the ingest in a folder stands.
func stat(dir string) (content.Status, error) {
	var n ingest.Note
	if err := ingest.Load(dir, &n); err != nil {
		return content.Status{}, err
	}
	fi, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		return content.Status{}, err
	}
	return n.Status(fi.Size(), fi.ModTime()), nil
}

func (s *Store) writer(_ context.Context, l *ingest.Lock, opts content.WriterOptions) (content.Writer, error) {
	w, err := s.resume(l, opts)
	if err != nil {
		return nil, classify(fmt.Sprintf("ingest %q", opts.Ref), err)
	}
	return w, nil
}

func (s *Store) resume(l *ingest.Lock, opts content.WriterOptions) (*writer, error) {
	var n ingest.Note
	err := ingest.Load(l.Dir, &n)
	if errors.Is(err, fs.ErrNotExist) {
		n = ingest.NewNote(opts)
		err = l.Create(n)
	}
	if err != nil {
		return nil, err
	}
	if err := n.Expect(opts.Descriptor.Size); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(l.Dir, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	w := &writer{Lock: l, s: s, f: f, note: n, hash: hasherFor(opts.Descriptor.Digest, n.Expected)}
	w.Recall(f, n.Started)
	// A resumed ingest is hashed again, but for what this process has written and left as
	// it is: what is on the disk counts, not what was meant.
	known, err := f.Seek(s.unpark(w), io.SeekStart)
	if err == nil {
		w.offset, err = io.Copy(w.hash.Hash(), f)
		w.offset += known
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

func hasherFor(candidates ...digest.Digest) digest.Digester {
	for _, d := range candidates {
		if d != "" {
			return d.Algorithm().Digester()
		}
	}
	return digest.Canonical.Digester()
}
