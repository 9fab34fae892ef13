package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// dropTornFolders removes what a crash left without a readable note. What the server
// has of those ingests goes with [Store.claim].
func (s *Store) dropTornFolders() error {
	torn, err := s.TornIngests(context.Background())
	for _, name := range torn {
		err = errors.Join(err, s.DropTorn(context.Background(), name))
	}
	return err
}

// TornIngests lists the folders of ingests whose note is torn and that no writer has
// opened.
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
	_, err := loadNote(filepath.Join(s.root, "ingest", name))
	return errors.Is(err, fs.ErrNotExist)
}

// busy reports whether a writer has the ingest in that folder open.
func (s *Store) busy(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busyLocked(name)
}

func (s *Store) busyLocked(name string) bool {
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
	s.mu.Lock() // keeps a writer from opening it meanwhile
	defer s.mu.Unlock()
	switch {
	case s.busyLocked(name):
		return fmt.Errorf("torn ingest %s is being written: %w", name, errdefs.ErrUnavailable)
	case !s.torn(name):
		return fmt.Errorf("ingest %s is whole: %w", name, errdefs.ErrFailedPrecondition)
	}
	return os.RemoveAll(filepath.Join(s.root, "ingest", name))
}
