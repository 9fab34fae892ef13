package local_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
)

// Bytes that were changed while nobody had the ingest open are seen, though the hash of
// the others is remembered.
func TestChangedWhileClosed(t *testing.T) {
	root := t.TempDir()
	s, err := local.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	want := digest.FromString("0123456789abcdef")
	file := filepath.Join(root, "ingest", fmt.Sprintf("%x", sha256.Sum256([]byte("x"))), "data")
	for name, c := range map[string]struct {
		change func() error
		good   bool
	}{
		"nothing":  {func() error { return nil }, true},
		"a byte":   {func() error { return os.WriteFile(file, []byte("012345678X"), 0o600) }, false},
		"the file": {func() error { return swap(file, "012345678X") }, false},
	} {
		w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "x"})
		if err != nil {
			t.Fatal(err)
		}
		w.Truncate(0)
		w.Write([]byte("0123456789"))
		w.Close()
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if w, err = s.Writer(t.Context(), content.WriterOptions{Ref: "x"}); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("abcdef"))
		err = w.Commit(t.Context(), 16, want, nil)
		if c.good && err != nil || !c.good && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", name, err)
		}
		s.Delete(t.Context(), want)
	}
}

// swap puts another file in its place, with the same time.
func swap(path, text string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(path+".new", fi.ModTime(), fi.ModTime()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
