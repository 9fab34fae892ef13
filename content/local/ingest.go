package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/filter"
)

// maxRef bounds the name of an ingest, in bytes.
const maxRef = 4096

// note is ref.json: what the bytes of an ingest don't tell.
type note struct {
	Ref      string        `json:"ref"`
	Total    int64         `json:"total,omitempty"`
	Expected digest.Digest `json:"expected,omitempty"`
	Started  time.Time     `json:"started"`
}

func (s *Store) ingestDir(ref string) string {
	return filepath.Join(s.root, "ingest", refName(ref))
}

// Writer opens or resumes the ingest of opts.Ref.
func (s *Store) Writer(_ context.Context, opts content.WriterOptions) (content.Writer, error) {
	if opts.Ref == "" || len(opts.Ref) > maxRef {
		return nil, fmt.Errorf("ingest ref must have 1 to %d bytes, has %d: %w", maxRef, len(opts.Ref), errdefs.ErrInvalidArgument)
	}
	if err := s.checkExpected(opts); err != nil {
		return nil, err
	}
	if !s.lock(opts.Ref) {
		return nil, fmt.Errorf("ingest %q has a writer already: %w", opts.Ref, errdefs.ErrUnavailable)
	}
	w, err := s.openIngest(opts)
	if err != nil {
		s.unlock(opts.Ref)
		return nil, classify(fmt.Sprintf("ingest %q", opts.Ref), err)
	}
	s.mu.Lock()
	s.open[opts.Ref] = w
	s.mu.Unlock()
	return w, nil
}

func (s *Store) checkExpected(opts content.WriterOptions) error {
	if opts.Descriptor.Digest == "" {
		return nil
	}
	path, err := s.path(opts.Descriptor.Digest)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("blob %s: %w", opts.Descriptor.Digest, errdefs.ErrAlreadyExists)
	}
	return nil
}

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

func (s *Store) openIngest(opts content.WriterOptions) (*writer, error) {
	dir := s.ingestDir(opts.Ref)
	n, err := loadNote(dir, opts.Ref)
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
	f, err := os.OpenFile(filepath.Join(dir, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	w := &writer{s: s, f: f, dir: dir, note: n, hash: hasherFor(opts.Descriptor.Digest, n.Expected)}
	if fi, err := f.Stat(); err == nil {
		w.updated.Store(max(fi.ModTime().UnixNano(), n.Started.UnixNano()))
	}
	// A resumed ingest is hashed again, but for what this process has written and left as
	// it is: what is on the disk counts, not what was meant.
	known, err := f.Seek(s.unpark(opts.Ref, w), io.SeekStart)
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

func newNote(dir string, opts content.WriterOptions) (note, error) {
	n := note{Ref: opts.Ref, Total: opts.Descriptor.Size, Expected: opts.Descriptor.Digest, Started: time.Now().UTC()}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return n, err
	}
	if err := os.Truncate(filepath.Join(dir, "data"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	data, err := json.Marshal(n)
	if err != nil {
		return n, err
	}
	tmp := filepath.Join(dir, "ref.json.new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return n, err
	}
	return n, os.Rename(tmp, filepath.Join(dir, "ref.json"))
}

// loadNote reads ref.json. One that a power cut left torn counts as none.
func loadNote(dir, ref string) (note, error) {
	var n note
	data, err := os.ReadFile(filepath.Join(dir, "ref.json"))
	if err != nil {
		return n, err
	}
	if json.Unmarshal(data, &n) != nil || ref != "" && n.Ref != ref {
		return n, fmt.Errorf("torn note: %w", fs.ErrNotExist)
	}
	return n, nil
}

// Status returns where one ingest stands.
func (s *Store) Status(_ context.Context, ref string) (content.Status, error) {
	st, err := s.statusIn(s.ingestDir(ref), ref)
	return st, classify(fmt.Sprintf("ingest %q", ref), err)
}

func (s *Store) statusIn(dir, ref string) (content.Status, error) {
	n, err := loadNote(dir, ref)
	if err != nil {
		return content.Status{}, err
	}
	fi, err := os.Stat(filepath.Join(dir, "data"))
	if err != nil {
		return content.Status{}, err
	}
	updated := fi.ModTime()
	s.mu.Lock()
	if w := s.open[n.Ref]; w != nil {
		updated = w.lastWrite()
	}
	s.mu.Unlock()
	return n.status(fi.Size(), updated), nil
}

func (n note) status(offset int64, updated time.Time) content.Status {
	return content.Status{Ref: n.Ref, Offset: offset, Total: n.Total, Expected: n.Expected, Started: n.Started, Updated: updated}
}

// ListStatuses returns the ingests, in no order. Torn ones are passed over;
// opening their ref again starts them anew.
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
		st, err := s.statusIn(filepath.Join(s.root, "ingest", d.Name()), "")
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

// Abort drops an ingest. One that is being written is Unavailable.
func (s *Store) Abort(_ context.Context, ref string) error {
	if !s.lock(ref) {
		return fmt.Errorf("ingest %q is being written: %w", ref, errdefs.ErrUnavailable)
	}
	defer s.unlock(ref)
	dir := s.ingestDir(ref)
	if _, err := os.Stat(dir); err != nil {
		return classify(fmt.Sprintf("ingest %q", ref), err)
	}
	return os.RemoveAll(dir)
}

var _ content.Mender = (*Store)(nil)

// TornIngests lists the folders of ingests whose note is torn or whose data are
// missing, and that no writer has opened.
func (s *Store) TornIngests(ctx context.Context) ([]string, error) {
	dirs, err := os.ReadDir(filepath.Join(s.root, "ingest"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range dirs {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !s.busy(d.Name()) && s.torn(d.Name()) {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

func (s *Store) torn(name string) bool {
	dir := filepath.Join(s.root, "ingest", name)
	n, err := loadNote(dir, "")
	if err == nil && refName(n.Ref) == name {
		_, err = os.Stat(filepath.Join(dir, "data"))
		return errors.Is(err, fs.ErrNotExist)
	}
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// busy reports whether a writer has the ingest in that folder open.
func (s *Store) busy(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.open {
		if refName(ref) == name {
			return true
		}
	}
	return false
}

// DropTorn removes the folder of a torn ingest.
func (s *Store) DropTorn(_ context.Context, name string) error {
	if name != filepath.Base(name) {
		return fmt.Errorf("torn ingest %q: %w", name, errdefs.ErrInvalidArgument)
	}
	// The lock keeps a writer from opening it meanwhile.
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.open {
		if refName(ref) == name {
			return fmt.Errorf("torn ingest %s is being written: %w", name, errdefs.ErrUnavailable)
		}
	}
	if !s.torn(name) {
		return fmt.Errorf("ingest %s is whole: %w", name, errdefs.ErrFailedPrecondition)
	}
	return os.RemoveAll(filepath.Join(s.root, "ingest", name))
}
