package proxy_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/contenttest"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/content/proxy"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/grpc"
)

// dial serves a store on a socket and returns a client of it.
func dial(t *testing.T, store content.Store) *proxy.Store {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	door, err := grpc.Listen(grpc.Socket{Path: socket}, []grpc.Service{&grpc.Content{Store: store}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { door.Close() })
	conn, err := ggrpc.NewClient("unix://"+socket, ggrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return proxy.New(conn, "test")
}

func backend(t *testing.T) *local.Store {
	t.Helper()
	s, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The remote is a bare backend, as a content plugin is.
func TestConformance(t *testing.T) {
	contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) {
		return dial(t, backend(t)), t.Context()
	})
}

// The remote is a whole daemon's store, with names, leases and a collector.
func TestConformanceOverDaemon(t *testing.T) {
	contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) {
		return dial(t, database(t).Content()), t.Context()
	})
}

func database(t *testing.T) *metadata.DB {
	t.Helper()
	db, err := metadata.Open(filepath.Join(t.TempDir(), "meta.db"), metadata.DefaultConfig(), metadata.Backends{Content: backend(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// A remote's own collector leaves our blobs alone.
func TestCollectorOfRemote(t *testing.T) {
	db := database(t)
	s := dial(t, db.Content())
	data := []byte("keep me")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := content.WriteBlob(t.Context(), s, "x", bytes.NewReader(data), desc, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := content.Verify(t.Context(), s, desc.Digest); err != nil {
		t.Error(err)
	}
}

// Reads side by side, in order and out of it, see the same bytes.
func TestReaders(t *testing.T) {
	s := dial(t, backend(t))
	data := make([]byte, 5<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(data)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := content.WriteBlob(t.Context(), s, "x", bytes.NewReader(data), desc, nil); err != nil {
		t.Fatal(err)
	}
	ra, err := s.ReaderAt(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer ra.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			off := int64(i) * 1000_003
			got, err := io.ReadAll(io.NewSectionReader(ra, off, ra.Size()-off))
			if err != nil || !bytes.Equal(got, data[off:]) {
				t.Errorf("from %d: %d bytes, %v", off, len(got), err)
			}
		})
	}
	wg.Wait()
	buf := make([]byte, 10)
	if n, err := ra.ReadAt(buf, ra.Size()-4); n != 4 || err != io.EOF {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
	if n, err := ra.ReadAt(buf, ra.Size()); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
}
