package grpc_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	walking "github.com/orlop/orlop/services/diff"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/proxy"
)

// picky knows nothing, and counts how often it was asked.
type picky struct{ asked int }

func (p *picky) Apply(context.Context, ocispec.Descriptor, []mount.Mount, diff.ApplyOptions) (ocispec.Descriptor, error) {
	p.asked++
	return ocispec.Descriptor{}, fmt.Errorf("this media type: %w", errdefs.ErrNotImplemented)
}

func (p *picky) Compare(context.Context, []mount.Mount, []mount.Mount, diff.CompareOptions) (ocispec.Descriptor, error) {
	p.asked++
	return ocispec.Descriptor{}, fmt.Errorf("this media type: %w", errdefs.ErrNotImplemented)
}

// remoteDiffer is a differ in another process: a service with these differs.
func remoteDiffer(t *testing.T, differs ...grpc.Differ) *proxy.Differ {
	t.Helper()
	address := filepath.Join(t.TempDir(), "d.sock")
	door, err := grpc.Listen(grpc.Socket{Path: address}, []grpc.Service{&grpc.Diff{Differs: differs}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ggrpc.NewClient("unix://"+address, ggrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		door.Close()
	})
	return proxy.NewDiffer(conn, "test")
}

// A layer goes to files and back, through the proxy and past a differ that knows
// it not.
func TestDiffersInOrder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	store, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: 5, Typeflag: tar.TypeReg})
	w.Write([]byte("world"))
	w.Close()
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(layer.Bytes()), Size: int64(layer.Len())}
	if err := content.WriteBlob(t.Context(), store, "x", &layer, desc, nil); err != nil {
		t.Fatal(err)
	}
	first := &picky{}
	d := remoteDiffer(t, first, &walking.Walking{Store: store})
	ctx := namespaces.With(t.Context(), "demo")
	dir, empty := t.TempDir(), t.TempDir()
	bind := func(dir string) []mount.Mount {
		return []mount.Mount{{Type: "bind", Source: dir, Options: []string{"bind"}}}
	}
	applied, err := d.Apply(ctx, desc, bind(dir), diff.ApplyOptions{SyncFS: true})
	if err != nil || applied.Digest != desc.Digest {
		t.Fatalf("applied %+v, %v", applied, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "hello")); err != nil || string(data) != "world" {
		t.Errorf("file: %q %v", data, err)
	}
	made, err := d.Compare(ctx, bind(empty), bind(dir), diff.CompareOptions{MediaType: ocispec.MediaTypeImageLayer, Reference: "back"})
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Verify(ctx, store, made.Digest); err != nil {
		t.Error(err)
	}
	if first.asked != 2 {
		t.Errorf("the first differ was asked %d times", first.asked)
	}
}

func TestNoDifferCan(t *testing.T) {
	for _, d := range []*proxy.Differ{remoteDiffer(t), remoteDiffer(t, &picky{})} {
		if _, err := d.Apply(t.Context(), ocispec.Descriptor{}, nil, diff.ApplyOptions{}); !errdefs.IsNotImplemented(err) {
			t.Errorf("%v, want NotImplemented", err)
		}
	}
}
