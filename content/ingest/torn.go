package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// TornIngests names the folders of torn ingests that no writer has opened.
func (f *Folders) TornIngests(ctx context.Context) ([]string, error) {
	var out []string
	for dir, err := range f.IngestDirs(ctx) {
		if err != nil {
			return nil, err
		}
		if !f.busy(dir) && f.torn(dir) {
			out = append(out, filepath.Base(dir))
		}
	}
	return out, nil
}

func (f *Folders) torn(dir string) bool {
	_, err := f.backend.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// busy reports whether a writer has the ingest in that folder open.
func (f *Folders) busy(dir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open[filepath.Base(dir)] != nil
}

// DropTorn removes the folder of a torn ingest. One that is being written is
// Unavailable, one that is whole FailedPrecondition.
func (f *Folders) DropTorn(_ context.Context, name string) error {
	dir := filepath.Join(f.root, name)
	if filepath.Dir(dir) != f.root || filepath.Base(dir) != name {
		return fmt.Errorf("torn ingest %q: %w", name, errdefs.ErrInvalidArgument)
	}
	f.mu.Lock() // keeps a writer from opening it meanwhile
	defer f.mu.Unlock()
	switch {
	case f.open[name] != nil:
		return fmt.Errorf("torn ingest %s is being written: %w", name, errdefs.ErrUnavailable)
	case !f.torn(dir):
		return fmt.Errorf("ingest %s is whole: %w", name, errdefs.ErrFailedPrecondition)
	}
	return os.RemoveAll(dir)
}
