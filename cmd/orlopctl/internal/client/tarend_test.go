package client

import (
	"archive/tar"
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// archive has what could be taken for an end: content of zeros, and long names
// with headers of their own.
func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string]string{"zeros": strings.Repeat("\x00", 5000), "a": "x", strings.Repeat("long", 90): "y", "empty": ""} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, PAXRecords: map[string]string{"X.y": "z"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTarEnd(t *testing.T) {
	data := archive(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var out bytes.Buffer
		end := &tarEnd{w: &out}
		for rest := data; len(rest) > 0; {
			if end.ended() {
				t.Fatalf("ended %d bytes too early", len(rest))
			}
			n := min(len(rest), 1+r.IntN(1500))
			if _, err := end.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !end.ended() || !bytes.Equal(out.Bytes(), data) {
			t.Fatalf("ended: %v, %d of %d bytes", end.ended(), out.Len(), len(data))
		}
	}
	cut := &tarEnd{w: &bytes.Buffer{}}
	cut.Write(data[:len(data)-600])
	if cut.ended() {
		t.Error("a cut archive has ended")
	}
	bad := &tarEnd{w: &bytes.Buffer{}}
	if _, err := bad.Write(bytes.Repeat([]byte{'x'}, 1024)); err == nil {
		t.Error("no archive, no error")
	}
}
