package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
)

// archiveOf has so many files of so many bytes.
func archiveOf(t *testing.T, files int, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range files {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Mode: 0o644, Size: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pack(t *testing.T, data []byte, open func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var b bytes.Buffer
	w := open(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Archives within the bounds, and what is none, come through as they are; others end.
func TestWeigh(t *testing.T) {
	gz := func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }
	zst := func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	small, large, many := archiveOf(t, 3, 1000), archiveOf(t, 1, 1<<20), archiveOf(t, 100, 0)
	for name, c := range map[string]struct {
		data []byte
		good bool
	}{
		"small": {small, true}, "small, gzip": {pack(t, small, gz), true}, "small, zstd": {pack(t, small, zst), true},
		"large": {large, false}, "large, gzip": {pack(t, large, gz), false}, "large, zstd": {pack(t, large, zst), false},
		"many": {many, false}, "many, gzip": {pack(t, many, gz), false},
		"two streams": {append(pack(t, small[:2048], gz), pack(t, append(small[2048:4608:4608], large...), gz)...), false},
		"text":        {[]byte("FROM scratch\n"), true}, "nothing": {nil, true},
		"damaged": {append([]byte{0x1f, 0x8b, 8, 0}, bytes.Repeat([]byte("x"), 5000)...), true},
	} {
		in := weigh(io.NopCloser(bytes.NewReader(c.data)), 500_000, 50)
		got, err := io.ReadAll(in)
		if cerr := in.Close(); cerr != nil {
			t.Errorf("%s: close: %v", name, cerr)
		}
		switch {
		case c.good && (err != nil || !bytes.Equal(got, c.data)):
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(c.data), err)
		case !c.good && !errdefs.IsOutOfRange(err):
			t.Errorf("%s: it is taken: %v", name, err)
		}
	}
}
