package checkpoint_test

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/services/checkpoint"
)

func TestPackUnpack(t *testing.T) {
	ctx, store := context.Background(), open(t)
	from, to := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(from, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"core.img": "core", "a/pages.img": "pages"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	desc, err := checkpoint.Pack(ctx, store, from)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.Unpack(ctx, store, desc, to); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"core.img": "core", "a/pages.img": "pages"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); string(got) != text {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := checkpoint.Unpack(ctx, store, desc, to); err == nil {
		t.Error("a checkpoint was written over another")
	}
	desc.MediaType = "text/plain"
	if err := checkpoint.Unpack(ctx, store, desc, t.TempDir()); err == nil {
		t.Error("another media type was taken")
	}
}

// What a blob of others may say must not lead out of the folder.
func TestUnpackHostile(t *testing.T) {
	ctx, store := context.Background(), open(t)
	for _, h := range []tar.Header{
		{Name: "../out", Typeflag: tar.TypeReg}, {Name: "/out", Typeflag: tar.TypeReg}, {Name: "a/../../out", Typeflag: tar.TypeReg},
	} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		h.Mode = 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		desc := ocispec.Descriptor{MediaType: checkpoint.MediaType, Digest: digest.FromBytes(buf.Bytes()), Size: int64(buf.Len())}
		if err := content.WriteBlob(ctx, store, desc.Digest.String(), &buf, desc, nil); err != nil {
			t.Fatal(err)
		}
		top := t.TempDir()
		dir := filepath.Join(top, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.Unpack(ctx, store, desc, dir); err == nil {
			t.Errorf("%q was taken", h.Name)
		}
		if list, _ := os.ReadDir(top); len(list) != 1 {
			t.Errorf("%q made %v", h.Name, list)
		}
	}
}

func open(t *testing.T) content.Store {
	s, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
