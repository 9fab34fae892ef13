// Package contenttest is the conformance suite of the content port. A driver, a
// proxy or a remote store runs it in one line:
//
//	contenttest.Run(t, func(t *testing.T) (content.Store, context.Context) { … })
package contenttest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
)

// Open returns an empty store and the context to use it with.
type Open func(t *testing.T) (content.Store, context.Context)

// Run checks every promise of the port, each on a store of its own.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		fn   func(*testing.T, context.Context, content.Store)
	}{
		{"write then read", writeThenRead},
		{"resume goes on where the first writer stopped", resume},
		{"one writer a ref", oneWriter},
		{"wrong size and wrong digest are refused", refused},
		{"a blob that is there is not written again", exists},
		{"abort", abort},
		{"truncate", truncate},
		{"statuses", statuses},
		{"walk and delete", walkDelete},
		{"sha512", sha512},
		{"not found", notFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := open(t)
			c.fn(t, ctx, s)
		})
	}
}

// blob makes n reproducible random bytes and their descriptor.
func blob(seed uint64, n int) ([]byte, ocispec.Descriptor) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b, ocispec.Descriptor{Digest: digest.FromBytes(b), Size: int64(n)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, err error, is func(error) bool, class string) {
	t.Helper()
	if !is(err) {
		t.Fatalf("got %v, want class %s", err, class)
	}
}

func writer(t *testing.T, ctx context.Context, s content.Store, ref string, desc ocispec.Descriptor) content.Writer {
	t.Helper()
	w, err := s.Writer(ctx, content.WriterOptions{Ref: ref, Descriptor: desc})
	must(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

func put(t *testing.T, ctx context.Context, s content.Store, seed uint64, n int) ([]byte, ocispec.Descriptor) {
	t.Helper()
	b, desc := blob(seed, n)
	must(t, content.WriteBlob(ctx, s, "put-"+desc.Digest.Encoded(), bytes.NewReader(b), desc, nil))
	return b, desc
}

func writeThenRead(t *testing.T, ctx context.Context, s content.Store) {
	for seed, n := range []int{0, 1, 4096, 1 << 20} {
		want, desc := put(t, ctx, s, uint64(seed), n)
		got, err := content.ReadBlob(ctx, s, desc, 2<<20)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back changed", n)
		}
		info, err := s.Info(ctx, desc.Digest)
		must(t, err)
		if info.Size != int64(n) {
			t.Fatalf("size %d, want %d", info.Size, n)
		}
	}
}

func resume(t *testing.T, ctx context.Context, s content.Store) {
	b, desc := blob(7, 100_000)
	w := writer(t, ctx, s, "resumed", desc)
	_, err := w.Write(b[:40_000])
	must(t, err)
	must(t, w.Close())
	w = writer(t, ctx, s, "resumed", desc)
	st, err := w.Status()
	must(t, err)
	if st.Offset != 40_000 || st.Ref != "resumed" {
		t.Fatalf("resumed as %+v", st)
	}
	_, err = w.Write(b[40_000:])
	must(t, err)
	must(t, w.Commit(ctx, desc.Size, desc.Digest, nil))
	must(t, content.Verify(ctx, s, desc.Digest))
}

func oneWriter(t *testing.T, ctx context.Context, s content.Store) {
	w := writer(t, ctx, s, "busy", ocispec.Descriptor{})
	_, err := s.Writer(ctx, content.WriterOptions{Ref: "busy"})
	expect(t, err, errdefs.IsUnavailable, "Unavailable")
	must(t, w.Close())
	must(t, writer(t, ctx, s, "busy", ocispec.Descriptor{}).Close())
}

func refused(t *testing.T, ctx context.Context, s content.Store) {
	b, desc := blob(3, 1000)
	w := writer(t, ctx, s, "short", ocispec.Descriptor{})
	w.Write(b[:999])
	expect(t, w.Commit(ctx, desc.Size, "", nil), errdefs.IsFailedPrecondition, "FailedPrecondition")
	w = writer(t, ctx, s, "wrong", ocispec.Descriptor{})
	w.Write(b)
	w.Write([]byte("x"))
	expect(t, w.Commit(ctx, 0, desc.Digest, nil), errdefs.IsFailedPrecondition, "FailedPrecondition")
	_, err := s.Info(ctx, desc.Digest)
	expect(t, err, errdefs.IsNotFound, "NotFound")
}

func exists(t *testing.T, ctx context.Context, s content.Store) {
	b, desc := put(t, ctx, s, 9, 500)
	_, err := s.Writer(ctx, content.WriterOptions{Ref: "again", Descriptor: desc})
	expect(t, err, errdefs.IsAlreadyExists, "AlreadyExists")
	w := writer(t, ctx, s, "again", ocispec.Descriptor{})
	w.Write(b)
	expect(t, w.Commit(ctx, 0, desc.Digest, nil), errdefs.IsAlreadyExists, "AlreadyExists")
	_, err = s.Status(ctx, "again")
	expect(t, err, errdefs.IsNotFound, "NotFound")
}

func abort(t *testing.T, ctx context.Context, s content.Store) {
	w := writer(t, ctx, s, "gone", ocispec.Descriptor{})
	w.Write([]byte("some"))
	must(t, w.Close())
	must(t, s.Abort(ctx, "gone"))
	expect(t, s.Abort(ctx, "gone"), errdefs.IsNotFound, "NotFound")
	st, err := writer(t, ctx, s, "gone", ocispec.Descriptor{}).Status()
	must(t, err)
	if st.Offset != 0 {
		t.Fatalf("after abort the ref resumes at %d", st.Offset)
	}
}

func truncate(t *testing.T, ctx context.Context, s content.Store) {
	b, desc := blob(4, 300)
	w := writer(t, ctx, s, "again", desc)
	w.Write([]byte("false start"))
	must(t, w.Truncate(0))
	w.Write(b)
	must(t, w.Commit(ctx, desc.Size, desc.Digest, nil))
	must(t, content.Verify(ctx, s, desc.Digest))
}

func statuses(t *testing.T, ctx context.Context, s content.Store) {
	for _, ref := range []string{"a", "b"} {
		w := writer(t, ctx, s, ref, ocispec.Descriptor{Size: 10})
		w.Write([]byte("12345"))
	}
	all, err := s.ListStatuses(ctx)
	must(t, err)
	if len(all) != 2 || all[0].Offset != 5 || all[0].Total != 10 {
		t.Fatalf("statuses %+v", all)
	}
	one, err := s.ListStatuses(ctx, `ref==b`)
	must(t, err)
	if len(one) != 1 || one[0].Ref != "b" {
		t.Fatalf("filtered statuses %+v", one)
	}
}

func walkDelete(t *testing.T, ctx context.Context, s content.Store) {
	_, a := put(t, ctx, s, 1, 10)
	_, b := put(t, ctx, s, 2, 20)
	must(t, s.Delete(ctx, a.Digest))
	expect(t, s.Delete(ctx, a.Digest), errdefs.IsNotFound, "NotFound")
	var seen []digest.Digest
	must(t, s.Walk(ctx, func(i content.Info) error {
		seen = append(seen, i.Digest)
		return nil
	}))
	if len(seen) != 1 || seen[0] != b.Digest {
		t.Fatalf("walk saw %v, want %s alone", seen, b.Digest)
	}
	stop := errors.New("stop")
	if err := s.Walk(ctx, func(content.Info) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("walk returned %v, want the callback's error", err)
	}
}

func sha512(t *testing.T, ctx context.Context, s content.Store) {
	b, _ := blob(5, 5000)
	dgst := digest.SHA512.FromBytes(b)
	w := writer(t, ctx, s, "long", ocispec.Descriptor{})
	w.Write(b)
	must(t, w.Commit(ctx, 0, dgst, nil))
	must(t, content.Verify(ctx, s, dgst))
}

func notFound(t *testing.T, ctx context.Context, s content.Store) {
	_, desc := blob(99, 1)
	_, err := s.ReaderAt(ctx, desc)
	expect(t, err, errdefs.IsNotFound, "NotFound")
	_, err = s.Info(ctx, desc.Digest)
	expect(t, err, errdefs.IsNotFound, "NotFound")
	_, err = s.ReaderAt(ctx, ocispec.Descriptor{Digest: "sha256:../../../etc/passwd"})
	if err == nil {
		t.Fatal("a malformed digest was opened")
	}
}
