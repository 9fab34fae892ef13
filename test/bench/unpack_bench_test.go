// Package bench measures Orlop against its budgets and its peers. These are
// benchmarks, never timed tests.
package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/erofs"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/overlayfs"
	"github.com/orlop/orlop/test/testimage"
)

type blob struct{ tar, gzip []byte }

var image = sync.OnceValues(makeImage)

func makeImage() ([]blob, error) {
	var blobs []blob
	err := testimage.LargeLayer(func(raw []byte) error {
		var z bytes.Buffer
		g := gzip.NewWriter(&z)
		if _, err := g.Write(raw); err != nil {
			return err
		}
		if err := g.Close(); err != nil {
			return err
		}
		blobs = append(blobs, blob{raw, z.Bytes()})
		return nil
	})
	return blobs, err
}

func drivers(b *testing.B) map[string]func(root string) (snapshotters.Unpacker, error) {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("needs root")
	}
	return map[string]func(string) (snapshotters.Unpacker, error){
		"erofs": func(root string) (snapshotters.Unpacker, error) { return erofs.Open(root, erofs.Config{}) },
		"overlayfs": func(root string) (snapshotters.Unpacker, error) {
			return overlayfs.Open(root, overlayfs.Config{})
		},
	}
}

func loadImage(b *testing.B) ([]blob, int64) {
	b.Helper()
	blobs, err := image()
	if err != nil {
		b.Fatal(err)
	}
	var size, packed int64
	for _, l := range blobs {
		size += int64(len(l.tar))
		packed += int64(len(l.gzip))
	}
	b.Logf("%d layers, %d MB of tar, %d MB of gzip", len(blobs), size>>20, packed>>20)
	return blobs, size
}

// unpackAll unpacks the layers, two at a time, and makes them durable.
func unpackAll(b *testing.B, d snapshotters.Unpacker, n int, open func(int) io.Reader) {
	b.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	var ids []string
	for i := range n {
		id := fmt.Sprintf("l%d", i)
		ids = append(ids, id)
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if _, err := d.Unpack(context.Background(), id, open(i), nil); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if err := d.Sync(context.Background(), ids); err != nil {
		b.Error(err)
	}
}

// BenchmarkUnpack is the tar in memory to durable layers. Each round has a
// folder of its own; nothing is deleted in between (ext4 is slow to create
// files just after it deleted some).
func BenchmarkUnpack(b *testing.B) {
	blobs, size := loadImage(b)
	for name, open := range drivers(b) {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				d, err := open(filepath.Join(root, fmt.Sprint(i)))
				if err != nil {
					b.Skip(err)
				}
				unpackAll(b, d, len(blobs), func(i int) io.Reader { return bytes.NewReader(blobs[i].tar) })
				d.Close()
			}
		})
	}
}

// BenchmarkGunzipHashUnpack is the whole way of a pulled blob: both digests,
// inflate, unpack, sync. The budget is 1.1 s with the fetch.
func BenchmarkGunzipHashUnpack(b *testing.B) {
	blobs, size := loadImage(b)
	gunzipHashUnpack(b, blobs, size)
}

// BenchmarkOneLayer is the same with the first layer alone, where nothing is
// done side by side but inflating and the rest.
func BenchmarkOneLayer(b *testing.B) {
	blobs, _ := loadImage(b)
	gunzipHashUnpack(b, blobs[:1], int64(len(blobs[0].tar)))
}

func gunzipHashUnpack(b *testing.B, blobs []blob, size int64) {
	b.Helper()
	for name, open := range drivers(b) {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				d, err := open(filepath.Join(root, fmt.Sprint(i)))
				if err != nil {
					b.Skip(err)
				}
				unpackAll(b, d, len(blobs), func(i int) io.Reader {
					r, err := layer.Decompress(io.TeeReader(bytes.NewReader(blobs[i].gzip), sha256.New()), "")
					if err != nil {
						b.Error(err)
						return bytes.NewReader(nil)
					}
					return io.TeeReader(r, sha256.New())
				})
				d.Close()
			}
		})
	}
}

// BenchmarkInflate is decompression alone, of one layer, beside the standard
// library.
func BenchmarkInflate(b *testing.B) {
	blobs, _ := loadImage(b)
	run := func(name string, open func(io.Reader) (io.Reader, error)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(blobs[0].tar)))
			for b.Loop() {
				r, err := open(bytes.NewReader(blobs[0].gzip))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("orlop", func(r io.Reader) (io.Reader, error) { return layer.Decompress(r, "") })
	run("stdlib", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
}
