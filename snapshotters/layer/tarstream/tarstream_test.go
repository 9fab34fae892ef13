package tarstream

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type read struct {
	Entry
	body []byte
}

func readAll(b []byte) (out []read, err error) {
	t := NewReader(bytes.NewReader(b))
	defer t.Close()
	for {
		e, err := t.Next()
		if err == io.EOF {
			return out, t.Drain()
		}
		if err != nil {
			return out, err
		}
		r := read{Entry: *e}
		if e.Size < 32<<20 {
			r.body = make([]byte, e.Size)
			if err := t.Each(func(off int64, p []byte) error { copy(r.body[off:], p); return nil }); err != nil {
				return out, err
			}
			for _, x := range e.Data { // extents name the same bytes
				if !bytes.Equal(r.body[x.Logical:x.Logical+x.Len], b[x.Stream:x.Stream+x.Len]) {
					return out, fmt.Errorf("extent %+v points elsewhere", x)
				}
			}
		}
		out = append(out, r)
	}
}

func TestAgainstStandardLibrary(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, f := range []tar.Format{tar.FormatUSTAR, tar.FormatGNU, tar.FormatPAX} {
		for _, name := range []string{"short", strings.Repeat("d/", 60) + "f", strings.Repeat("x", 99)} {
			h := &tar.Header{Format: f, Name: fmt.Sprintf("%d%s", i, name), Mode: 0o640, Uid: 1, Gid: 2, Size: 1000, ModTime: time.Unix(1e9, 0)}
			if f != tar.FormatUSTAR {
				h.Name += strings.Repeat("/long", 100)
				h.Uid, h.Gid = 3e6, 4e6
			}
			if f == tar.FormatPAX {
				h.ModTime = time.Unix(1e9, 123456789)
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b\x00c"}
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			w.Write(bytes.Repeat([]byte{byte(i)}, 1000))
		}
	}
	w.Close()
	compare(t, b.Bytes())
}

// compare holds this reader against archive/tar on one archive.
func compare(t *testing.T, b []byte) {
	t.Helper()
	got, err := readAll(b)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(b))
	for i := 0; ; i++ {
		h, err := r.Next()
		if err == io.EOF {
			if i != len(got) {
				t.Fatalf("%d entries, want %d", len(got), i)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		g := got[i]
		if g.Name != h.Name || g.Size != h.Size || int(g.UID) != h.Uid || int(g.GID) != h.Gid || !g.ModTime.Equal(h.ModTime) ||
			g.Linkname != h.Linkname || int64(g.Mode) != h.Mode&0o7777 {
			t.Errorf("entry %d: %+v\nwant %+v", i, g.Entry, h)
		}
		if h.Size < 32<<20 {
			if want, _ := io.ReadAll(r); !bytes.Equal(want, g.body) {
				t.Errorf("%s: contents differ", h.Name)
			}
		}
	}
}

func TestSparseFormats(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar program")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(40) { // more than one old-format map block
		if _, err := f.WriteAt([]byte(fmt.Sprint("data", i)), i*200<<10); err != nil {
			t.Fatal(err)
		}
	}
	f.Truncate(10 << 20)
	f.Close()
	for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		out, err := exec.Command("tar", append(args, "-S", "-C", dir, "-cf", "-", "sparse")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(out)
		if err != nil || len(got) != 1 || !got[0].Sparse {
			t.Fatalf("%v: %v %+v", args, err, got)
		}
		compare(t, out)
	}
}

func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "a", Size: 3, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}, ModTime: time.Unix(1, 5), Format: tar.FormatPAX})
	w.Write([]byte("abc"))
	w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readAll(b)
		if err != nil {
			return
		}
		for _, e := range got {
			at := int64(0)
			for _, x := range e.Data {
				if x.Logical < at || x.Len <= 0 || x.Logical+x.Len > e.Size || x.Stream+x.Len > int64(len(b)) {
					t.Fatalf("extent %+v of %+v", x, e.Entry)
				}
				at = x.Logical + x.Len
			}
		}
	})
}
