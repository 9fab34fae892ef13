package security

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/erofs"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/overlayfs"
)

// heapPeak runs fn and returns the most heap in use meanwhile above the start.
func heapPeak(fn func()) int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	start, peak := int64(m.HeapInuse), atomic.Int64{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), int64(m.HeapInuse)-start))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	fn()
	close(stop)
	<-done
	return peak.Load()
}

// bomb is a tar of one file of n zeros, and nothing in memory.
func bomb(n int64) io.Reader {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: "zeros", Size: n, Mode: 0o644})
		if err == nil {
			_, err = io.CopyN(t, zeroReader{}, n)
		}
		w.CloseWithError(errors.Join(err, t.Close()))
	}()
	return r
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestCompressionBombs: small blobs that grow to 2 GiB stop at the declared
// limit, with an error, without filling memory or disk.
func TestCompressionBombs(t *testing.T) {
	const full, limit = 2 << 30, 16 << 20
	var gz, zs bytes.Buffer
	g, _ := gzip.NewWriterLevel(&gz, gzip.BestSpeed)
	z, err := zstd.NewWriter(&zs)
	must(t, err)
	_, err = io.Copy(io.MultiWriter(g, z), bomb(full))
	must(t, errors.Join(err, g.Close(), z.Close()))
	t.Logf("gzip %d bytes, zstd %d bytes, both of %d", gz.Len(), zs.Len(), full)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for kind, b := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		for name, open := range map[string]func(string) (snapshotters.Unpacker, error){
			"overlayfs": func(dir string) (snapshotters.Unpacker, error) {
				return overlayfs.Open(dir, overlayfs.Config{MaxLayerBytes: limit})
			},
			"erofs": func(dir string) (snapshotters.Unpacker, error) {
				return erofs.Open(dir, erofs.Config{MaxLayerBytes: limit})
			},
		} {
			d, err := open(t.TempDir())
			if err != nil {
				t.Log(err)
				continue
			}
			peak := heapPeak(func() {
				r, err := layer.Decompress(bytes.NewReader(b), "")
				must(t, err)
				defer r.Close()
				if _, err := d.Unpack(context.Background(), "l", r, nil); !errors.Is(err, layer.ErrLimit) {
					t.Errorf("%s, %s: error %v", kind, name, err)
				}
			})
			d.Close()
			if peak > 64<<20 {
				t.Errorf("%s, %s: %d MiB of memory", kind, name, peak>>20)
			}
		}
	}
}

// TestZstdWindow: a frame that asks for a window of 1 GiB is refused.
func TestZstdWindow(t *testing.T) {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00} // window descriptor: 2^(10+20)
	peak := heapPeak(func() {
		r, err := layer.Decompress(bytes.NewReader(frame), "")
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if err == nil {
			t.Error("no error")
		}
	})
	if peak > 64<<20 {
		t.Errorf("%d MiB of memory", peak>>20)
	}
}

// manyEntries is a tar of n empty files.
func manyEntries(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		var err error
		for i := 0; i < n && err == nil; i++ {
			err = t.WriteHeader(&tar.Header{Name: fmt.Sprintf("d%d/f%d", i%100, i), Mode: 0o644})
		}
		w.CloseWithError(errors.Join(err, t.Close()))
	}()
	return r
}

// TestMillionEntries: 10⁶ tiny entries need bounded memory, and more entries
// than declared are refused.
func TestMillionEntries(t *testing.T) {
	if os.Getuid() != 0 || testing.Short() {
		t.Skip("needs root and a minute")
	}
	d, err := erofs.Open(t.TempDir(), erofs.Config{})
	if err != nil {
		t.Skip(err)
	}
	defer d.Close()
	peak := heapPeak(func() {
		_, err := d.Unpack(context.Background(), "l", manyEntries(1e6), nil)
		must(t, err)
	})
	t.Logf("erofs: %d MiB for a million entries", peak>>20)
	if peak > 1<<30 {
		t.Errorf("%d MiB of memory", peak>>20)
	}
	must(t, d.Remove(context.Background(), "l"))
	_, err = layer.Apply(context.Background(), t.TempDir(), manyEntries(1e6), layer.Options{MaxEntries: 1000})
	if !errors.Is(err, layer.ErrLimit) {
		t.Error("entries above the limit:", err)
	}
}

// TestLargeHeaders: attributes and PAX headers that no file system takes are
// refused before they are kept.
func TestLargeHeaders(t *testing.T) {
	mb := strings.Repeat("x", 1<<20)
	rows := map[string][]byte{
		"attribute of 1 MB": rawPAX("SCHILY.xattr.user.big", mb[:1<<20-100]),
		"attribute of 70 k": rawPAX("SCHILY.xattr.user.big", mb[:70<<10]),
		"header above 1 MB": rawPAX("comment", mb+mb),
		"path of 1 MB":      rawPAX("path", mb[:1<<20-100]),
		"deep path":         rawPAX("path", strings.Repeat("d/", 50000)+"f"),
		"long component":    rawPAX("path", strings.Repeat("n", 300)),
		"link of 1 MB":      rawPAX("linkpath", mb[:1<<20-100]),
		"uid of 2^32":       rawPAX("uid", "4294967296"),
		"uid of 2^32-1":     rawPAX("uid", "4294967295"), // chown takes it for "leave it"
		"negative uid":      rawPAX("uid", "-1"),
		"negative size":     rawPAX("size", "-1"),
		"huge size":         rawPAX("size", "9223372036854775807"),
	}
	for way, unpack := range unpackWays(t) {
		for name, b := range rows {
			var err error
			peak := heapPeak(func() { err = unpack(t.TempDir(), bytes.NewReader(b)) })
			if err == nil && name != "link of 1 MB" { // a plain file's link says nothing
				t.Errorf("%s: %s: no error", way, name)
			}
			if peak > 32<<20 {
				t.Errorf("%s: %s: %d MiB of memory", way, name, peak>>20)
			}
		}
	}
}

// rawPAX is a tar of one file with one PAX record, whatever its size.
func rawPAX(key, value string) []byte {
	record := " " + key + "=" + value + "\n"
	n := len(record) + 1
	for len(fmt.Sprint(n))+len(record) != n {
		n++
	}
	record = fmt.Sprint(n) + record
	block := func(name string, kind byte, size int) []byte {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
		copy(b[148:], "        ")
		b[156] = kind
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	out := append(block("pax", 'x', len(record)), record...)
	out = append(out, make([]byte, (512-len(record)%512)%512)...)
	out = append(out, block("file", '0', 0)...)
	return append(out, make([]byte, 1024)...)
}

// TestSparseBomb: a file of 4 TiB of holes costs neither time nor disk.
func TestSparseBomb(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar program")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "huge"))
	must(t, err)
	must(t, errors.Join(f.Truncate(4<<40), f.Close()))
	b, err := exec.Command("tar", "-S", "--format=pax", "-C", dir, "-cf", "-", "huge").Output()
	must(t, err)
	for way, unpack := range unpackWays(t) {
		start := time.Now()
		if err := unpack(t.TempDir(), bytes.NewReader(b)); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: %v for a file of holes", way, d)
		}
	}
}
