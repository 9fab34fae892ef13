package local_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/contenttest"
	"github.com/orlop/orlop/content/local"
)

func open(t *testing.T, root string) *local.Store {
	t.Helper()
	s, err := local.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) {
		return open(t, t.TempDir()), t.Context()
	})
}

// A power cut may leave an ingest shorter than it was, or its note torn.
func TestTornIngest(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "torn"})
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("hello, world"))
	w.Close()
	dirs, _ := filepath.Glob(filepath.Join(root, "ingest", "*"))
	if err := os.Truncate(filepath.Join(dirs[0], "data"), 5); err != nil {
		t.Fatal(err)
	}
	w, err = open(t, root).Writer(t.Context(), content.WriterOptions{Ref: "torn"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.Digest(), digest.FromString("hello"); got != want {
		t.Fatalf("resumed with digest %s, the disk holds %s", got, want)
	}
	w.Close()
	s = open(t, root) // which would drop a torn one
	if err := os.WriteFile(filepath.Join(dirs[0], "ref.json"), []byte(`{"ref":"to`), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(dirs[0])
	if torn, err := s.TornIngests(t.Context()); err != nil || len(torn) != 1 || torn[0] != name {
		t.Fatalf("torn ingests %v (%v), want %s", torn, err, name)
	}
	w, err = s.Writer(t.Context(), content.WriterOptions{Ref: "torn"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if torn, err := s.TornIngests(t.Context()); err != nil || len(torn) != 0 {
		t.Fatalf("an ingest that is written counts as torn: %v (%v)", torn, err)
	}
	if err := s.DropTorn(t.Context(), name); err == nil {
		t.Fatal("an ingest that is written was dropped")
	}
	if st, _ := w.Status(); st.Offset != 0 {
		t.Fatalf("a torn note resumed at %d, want a fresh start", st.Offset)
	}
}

func TestDropTorn(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	dir := filepath.Join(root, "ingest", "half")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.DropTorn(t.Context(), "half"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("the torn ingest is still there")
	}
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "whole"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	dirs, _ := filepath.Glob(filepath.Join(root, "ingest", "*"))
	if err := s.DropTorn(t.Context(), filepath.Base(dirs[0])); err == nil {
		t.Fatal("a whole ingest was dropped")
	}
	for _, outside := range []string{"../blobs", "..", "."} {
		if err := s.DropTorn(t.Context(), outside); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("a folder outside: %v", err)
		}
	}
}

func TestOthersCantEnter(t *testing.T) {
	root := t.TempDir()
	open(t, root)
	for _, dir := range []string{"blobs", "ingest"} {
		fi, err := os.Stat(filepath.Join(root, dir))
		if err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v (%v): other users may look in", dir, fi.Mode(), err)
		}
	}
}

func TestDamageIsSeen(t *testing.T) {
	s := open(t, t.TempDir())
	data := []byte("precious")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "x", Descriptor: desc})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Commit(t.Context(), desc.Size, desc.Digest, nil); err != nil {
		t.Fatal(err)
	}
	path := s.Path(desc.Digest)
	os.Chmod(path, 0o600)
	os.WriteFile(path, []byte("precioux"), 0o600)
	if content.Verify(t.Context(), s, desc.Digest) == nil {
		t.Fatal("a flipped byte went unnoticed")
	}
}

// A power cut may leave an ingest without its note or its data; no list shows it,
// so it has to go at Open.
func TestTornIngestsGo(t *testing.T) {
	root := t.TempDir()
	s, err := local.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, ref := range []string{"whole", "no note", "torn note", "no data"} {
		w, err := s.Writer(ctx, content.WriterOptions{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("some bytes")); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	dir := func(ref string) string {
		return filepath.Join(root, "ingest", fmt.Sprintf("%x", sha256.Sum256([]byte(ref))))
	}
	err = errors.Join(os.Remove(filepath.Join(dir("no note"), "ref.json")), os.Truncate(filepath.Join(dir("torn note"), "ref.json"), 3),
		os.Remove(filepath.Join(dir("no data"), "data")))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = local.Open(root); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(filepath.Join(root, "ingest"))
	if len(left) != 1 || left[0].Name() != filepath.Base(dir("whole")) {
		t.Fatalf("left: %v", left)
	}
	if st, err := s.Status(ctx, "whole"); err != nil || st.Offset != 10 {
		t.Fatalf("%+v, %v", st, err)
	}
}
