package checkpoint_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
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
		desc := blob(t, store, &buf)
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

// A sparse file of a few bytes must not fill the disk.
func TestUnpackSparse(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "big.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", dir, "--sparse", "--format=pax", "-c", "big.img").Output()
	if err != nil {
		t.Fatal(err)
	}
	store, to := open(t), t.TempDir()
	if err := checkpoint.Unpack(context.Background(), store, blob(t, store, bytes.NewBuffer(out)), to); !errdefs.IsInvalidArgument(err) {
		t.Errorf("it was taken: %v", err)
	}
	if list, _ := os.ReadDir(to); len(list) > 0 {
		t.Errorf("it made %v", list)
	}
}

// blob stores a checkpoint.
func blob(t *testing.T, store content.Store, data *bytes.Buffer) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: checkpoint.MediaType, Digest: digest.FromBytes(data.Bytes()), Size: int64(data.Len())}
	if err := content.WriteBlob(context.Background(), store, desc.Digest.String(), data, desc, nil); err != nil {
		t.Fatal(err)
	}
	return desc
}

func open(t *testing.T) content.Store {
	s, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
