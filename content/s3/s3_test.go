package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/contenttest"
	"github.com/orlop/orlop/content/s3"
	"github.com/orlop/orlop/test/s3rig"
)

const part = 5 << 20 // the least that S3 takes

func config(srv *s3rig.Server, prefix string) s3.Config {
	return s3.Config{Endpoint: srv.Endpoint(), Bucket: s3rig.Bucket, Prefix: prefix, AccessKey: s3rig.Access, SecretKey: s3rig.Secret,
		PartSize: part, Stall: 500 * time.Millisecond, Tries: 2}
}

func openStore(t *testing.T, root string, cfg s3.Config) *s3.Store {
	t.Helper()
	s, err := s3.Open(root, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func random(n int) ([]byte, ocispec.Descriptor) {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b, ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(n)}
}

func TestConformance(t *testing.T) {
	srv := s3rig.Start(t)
	contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) {
		cfg := config(srv, filepath.Base(t.TempDir())+t.Name()+"/")
		cfg.Stall = 10 * time.Second
		return openStore(t, t.TempDir(), cfg), t.Context()
	})
}

// What a process leaves that is killed in the middle of an ingest goes on where it
// stood, parts and all.
func TestKilled(t *testing.T) {
	srv, root := s3rig.Start(t), t.TempDir()
	data, desc := random(3*part + 4321)
	s := openStore(t, root, config(srv, "x/"))
	for _, upTo := range []int{100, part, part + 7, 2*part + 100, 3 * part} {
		w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "large"})
		must(t, err)
		st, err := w.Status()
		must(t, err)
		if _, err = w.Write(data[st.Offset:upTo]); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, root, config(srv, "x/")) // the writer is not closed
		st, err = s.Status(t.Context(), "large")
		must(t, err)
		if st.Offset != int64(upTo) {
			t.Fatalf("the ingest stands at %d, %d bytes were written", st.Offset, upTo)
		}
	}
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "large"})
	must(t, err)
	_, err = w.Write(data[3*part:])
	must(t, err)
	if _, err := s.Info(t.Context(), desc.Digest); !errdefs.IsNotFound(err) {
		t.Fatalf("before its commit the blob is there: %v", err)
	}
	must(t, w.Commit(t.Context(), desc.Size, desc.Digest, nil))
	must(t, content.Verify(t.Context(), s, desc.Digest))
	nothingLeft(t, srv, root)
}

// nothingLeft checks that no ingest is anywhere.
func nothingLeft(t *testing.T, srv *s3rig.Server, root string) {
	t.Helper()
	for _, dir := range []string{srv.Path("x/ingest"), srv.Path(".sgwtmp/multipart"), filepath.Join(root, "ingest")} {
		found, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s/%s is left", dir, f.Name())
		}
	}
}

// Large blobs: another algorithm than the ingest's, a wrong digest, reads out of order.
func TestLarge(t *testing.T) {
	srv, root := s3rig.Start(t), t.TempDir()
	s := openStore(t, root, config(srv, "x/"))
	data, desc := random(2*part + 99)
	put := func(want digest.Digest) error {
		w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "large"})
		must(t, err)
		defer w.Close()
		must(t, w.Truncate(0))
		_, err = w.Write(data)
		must(t, err)
		return w.Commit(t.Context(), 0, want, nil)
	}
	for _, wrong := range []digest.Digest{digest.FromString("x"), digest.SHA512.FromString("x")} {
		if err := put(wrong); !errdefs.IsFailedPrecondition(err) {
			t.Fatalf("a wrong digest: %v", err)
		}
	}
	for _, right := range []digest.Digest{desc.Digest, digest.SHA512.FromBytes(data)} {
		must(t, put(right))
		must(t, content.Verify(t.Context(), s, right))
	}
	r, err := s.ReaderAt(t.Context(), desc)
	must(t, err)
	defer r.Close()
	for range 200 {
		from := rand.IntN(len(data))
		p := make([]byte, rand.IntN(100_000)+1)
		n, err := r.ReadAt(p, int64(from))
		if err != nil && err != io.EOF || !bytes.Equal(p[:n], data[from:from+n]) || n < min(len(p), len(data)-from) {
			t.Fatalf("read of %d bytes at %d: %d, %v", len(p), from, n, err)
		}
	}
	must(t, r.Close())
	must(t, errors.Join(s.Delete(t.Context(), desc.Digest), s.Delete(t.Context(), digest.SHA512.FromBytes(data))))
	nothingLeft(t, srv, root)
}

// A server that fails now and then isn't noticed; one that is away is Unavailable, and
// nothing is lost.
func TestFaults(t *testing.T) {
	srv, root := s3rig.Start(t), t.TempDir()
	s := openStore(t, root, config(srv, "x/"))
	data, desc := random(4 * part)
	put := func() error {
		w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "large"})
		if err != nil {
			return err
		}
		defer w.Close()
		st, err := w.Status()
		must(t, err)
		if _, err := w.Write(data[st.Offset:]); err != nil {
			return err
		}
		return w.Commit(t.Context(), desc.Size, desc.Digest, nil)
	}
	for name, f := range map[string]s3rig.Fault{"broken": s3rig.Broken, "silent": s3rig.Silent} {
		srv.Set(f)
		if err := put(); !errdefs.IsUnavailable(err) {
			t.Fatalf("%s: %v, want Unavailable", name, err)
		}
	}
	srv.Down()
	srv.Set(nil)
	if err := put(); !errdefs.IsUnavailable(err) {
		t.Fatalf("down: %v, want Unavailable", err)
	}
	srv.Up()
	srv.Set(s3rig.Every(3, "PUT", s3rig.Broken))
	must(t, put())
	srv.Set(s3rig.Every(2, "GET", s3rig.Cut(1_000_000)))
	must(t, content.Verify(t.Context(), s, desc.Digest))
	if srv.Seen("GET") < 3 {
		t.Errorf("the blob was read by %d requests: nothing was cut", srv.Seen("GET"))
	}
	srv.Set(nil)
	nothingLeft(t, srv, root)
}

// A prefix has one owner; what that has lost is swept at its next start.
func TestOwner(t *testing.T) {
	srv, root := s3rig.Start(t), t.TempDir()
	s := openStore(t, root, config(srv, "x/"))
	data, desc := random(part + 1)
	must(t, content.WriteBlob(t.Context(), s, "a", bytes.NewReader(data), desc, nil))
	w, err := s.Writer(t.Context(), content.WriterOptions{Ref: "b"})
	must(t, err)
	_, err = w.Write(data)
	must(t, errors.Join(err, w.Close()))

	other := openStore(t, t.TempDir(), config(srv, "x/"))
	err = other.Walk(t.Context(), func(content.Info) error { return nil })
	if !errdefs.IsInternal(err) || other.Delete(t.Context(), desc.Digest) == nil {
		t.Errorf("another store uses the prefix: %v", err)
	}
	must(t, content.Verify(t.Context(), s, desc.Digest))

	must(t, os.RemoveAll(filepath.Join(root, "ingest"))) // a power cut took the notes
	s = openStore(t, root, config(srv, "x/"))
	found := 0
	must(t, s.Walk(t.Context(), func(content.Info) error { found++; return nil }))
	if found != 1 {
		t.Errorf("%d blobs, want 1", found)
	}
	nothingLeft(t, srv, root)
}

func TestConfig(t *testing.T) {
	good := s3.Config{Endpoint: "https://s3.example.com", Bucket: "b"}
	must(t, good.Validate())
	for name, change := range map[string]func(*s3.Config){
		"no endpoint": func(c *s3.Config) { c.Endpoint = "" }, "no scheme": func(c *s3.Config) { c.Endpoint = "s3.example.com" },
		"a path": func(c *s3.Config) { c.Endpoint += "/b" }, "no bucket": func(c *s3.Config) { c.Bucket = "" },
		"small parts": func(c *s3.Config) { c.PartSize = 1 }, "half a key": func(c *s3.Config) { c.AccessKey = "a" },
		"slash": func(c *s3.Config) { c.Prefix = "/x" }, "negative": func(c *s3.Config) { c.Tries = -1 },
	} {
		c := good
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
