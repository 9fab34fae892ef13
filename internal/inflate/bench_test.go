package inflate

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// corpus is programs of this machine, as much as a layer holds of them, packed
// as docker packs (level 6).
func corpus(b *testing.B) (packed []byte, size int64) {
	b.Helper()
	names, _ := filepath.Glob("/usr/bin/*")
	var z bytes.Buffer
	w := stdgzip.NewWriter(&z)
	for _, name := range names {
		p, err := os.ReadFile(name)
		if err != nil || len(p) > 20<<20 {
			continue
		}
		w.Write(p)
		if size += int64(len(p)); size > 48<<20 {
			break
		}
	}
	w.Close()
	return z.Bytes(), size
}

// BenchmarkInflate compares with the peers there are, on the same bytes.
func BenchmarkInflate(b *testing.B) {
	packed, size := corpus(b)
	run := func(name string, open func(io.Reader) (io.Reader, error)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				r, err := open(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != size {
					b.Fatal(n, err)
				}
			}
		})
	}
	own := &Reader{}
	run("orlop", func(r io.Reader) (io.Reader, error) { return own, own.Reset(r) })
	run("klauspost", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
	run("stdlib", func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) })
	igzip, err := exec.LookPath("igzip")
	if err != nil {
		return
	}
	b.Run("igzip-program", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			cmd := exec.Command(igzip, "-dc")
			cmd.Stdin, cmd.Stdout = bytes.NewReader(packed), io.Discard
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
