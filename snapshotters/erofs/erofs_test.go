package erofs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/erofs"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

func open(t *testing.T) snapshotters.Driver {
	t.Helper()
	d, err := erofs.Open(t.TempDir(), erofs.Config{})
	if err != nil {
		t.Skip(err)
	}
	return d
}

func TestConformance(t *testing.T) { snapshottest.Run(t, open) }

// randomLayer makes a tar with every kind of entry.
func randomLayer(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dirs, files := []string{""}, []string{}
	for i := range n {
		at := dirs[r.IntN(len(dirs))]
		h := &tar.Header{Name: fmt.Sprintf("%s%c%d%s", at, "+-.aZ"[r.IntN(5)], i, strings.Repeat("n", r.IntN(120))),
			Mode: int64(r.IntN(0o10000)), Uid: r.IntN(1e6), Gid: r.IntN(3), ModTime: time.Unix(r.Int64N(4e9), int64(r.IntN(1e9))), Format: tar.FormatPAX}
		var body []byte
		switch k := r.IntN(12); {
		case k < 2:
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
			dirs = append(dirs, h.Name)
		case k == 2:
			h.Typeflag, h.Linkname = tar.TypeSymlink, strings.Repeat("x", 1+r.IntN(1500))
		case k == 3 && len(files) > 0:
			h.Typeflag, h.Linkname = tar.TypeLink, files[r.IntN(len(files))]
		case k == 4:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(r.IntN(4000)), int64(r.IntN(1<<19))
		case k == 5:
			h.Typeflag = tar.TypeFifo
		case k == 6:
			h.Name = at + ".wh.gone" + fmt.Sprint(i)
		default:
			h.Typeflag = tar.TypeReg
			body = make([]byte, r.IntN(3)*r.IntN(20000))
			for i := range body {
				body[i] = byte(r.Uint32())
			}
			files = append(files, h.Name)
			h.PAXRecords = map[string]string{}
			for j := range r.IntN(4) {
				h.PAXRecords[fmt.Sprintf("SCHILY.xattr.user.%d", j)] = strings.Repeat("v", r.IntN(900))
			}
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		w.Write(body)
	}
	w.Close()
	return b.Bytes()
}

// describe lists everything about a tree.
func describe(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	seen := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			lines = append(lines, rel+" whiteout") // owner and time mean nothing
			return nil
		}
		line := fmt.Sprintf("%s %v %o %d:%d", rel, e.Type(), st.Mode, st.Uid, st.Gid)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			line += fmt.Sprintf(" %d n%d r%d", st.Size, st.Nlink, st.Rdev)
			line += fmt.Sprintf(" %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
			if seen[st.Ino] == "" {
				seen[st.Ino] = rel
			}
			line += " " + seen[st.Ino]
		}
		if e.Type().IsRegular() { // opening a fifo would wait for ever
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", b)
		}
		if to, err := os.Readlink(p); err == nil {
			line += " -> " + to
		}
		buf := make([]byte, 64<<10)
		n, _ := unix.Llistxattr(p, buf)
		keys := strings.Split(string(buf[:n]), "\x00")
		sort.Strings(keys)
		for _, k := range keys {
			if n, err := unix.Lgetxattr(p, k, buf); err == nil && k != "" {
				line += fmt.Sprintf(" %s=%s", k, buf[:n])
			}
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// TestSameAsDirectories: an image shows what a directory made of the same tar
// shows.
func TestSameAsDirectories(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	d := open(t).(snapshotters.Unpacker)
	defer d.Close()
	ctx := context.Background()
	for seed := range uint64(12) {
		b := randomLayer(seed, 100+int(seed)*60)
		id := fmt.Sprint("l", seed)
		if _, err := d.Unpack(ctx, id, bytes.NewReader(b), nil); err != nil {
			t.Fatal(seed, err)
		}
		defer d.Remove(ctx, id)
		dir := t.TempDir()
		if _, err := layer.Apply(ctx, dir, bytes.NewReader(b), layer.Options{Whiteouts: layer.Overlay}); err != nil {
			t.Fatal(err)
		}
		ms, err := d.Create(ctx, snapshotters.Storage{ID: id + "-v", Kind: snapshotters.KindView, Parents: []string{id}})
		if err != nil {
			t.Fatal(err)
		}
		err = mounts.WithTemp(ctx, ms, func(root string) error {
			got, want := strings.Split(describe(t, root), "\n"), strings.Split(describe(t, dir+"/."), "\n")
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("seed %d, line %d: \n%.600s\nwant\n%.600s", seed, i, got[min(i, len(got)-1)], want[i])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAfterReboot: the mounts are gone, Mounts brings them back; a new driver
// on the same root finds everything.
func TestAfterReboot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := t.TempDir()
	ctx := context.Background()
	d, err := erofs.Open(root, erofs.Config{})
	if err != nil {
		t.Skip(err)
	}
	if _, err := d.Unpack(ctx, "l", bytes.NewReader(randomLayer(1, 50)), nil); err != nil {
		t.Fatal(err)
	}
	s := snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Parents: []string{"l"}}
	if _, err := d.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := mounts.UnmountAll(d.Path("l", "fs"), false); err != nil {
		t.Fatal(err)
	}
	if d, err = erofs.Open(root, erofs.Config{}); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ms, err := d.Mounts(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	err = mounts.WithTemp(ctx, ms, func(r string) error {
		if ents, _ := os.ReadDir(r); len(ents) < 3 {
			t.Errorf("%d entries after the mounts were lost", len(ents))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, id := range []string{"x", "l"} {
		if err := d.Remove(ctx, id); err != nil {
			t.Error(err)
		}
	}
	if text, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(text), root) {
		t.Error("a mount is left")
	}
}

// TestSparseLayerIsADirectory: EROFS can't show a sparse file over its tar.
func TestSparseLayerIsADirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("middle"), 3<<20)
	f.Truncate(1 << 40)
	f.Close()
	b, err := exec.Command("tar", "-S", "--format=pax", "-C", dir, "-cf", "-", "sparse").Output()
	if err != nil {
		t.Skip(err)
	}
	d := open(t).(snapshotters.Unpacker)
	defer d.Close()
	ctx := context.Background()
	u, err := d.Unpack(ctx, "l", bytes.NewReader(b), nil)
	if err != nil || u.Size > 1<<20 {
		t.Fatal(u, err)
	}
	if err := d.Sync(ctx, []string{"l"}); err != nil {
		t.Error(err)
	}
	ms, err := d.Create(ctx, snapshotters.Storage{ID: "v", Kind: snapshotters.KindView, Parents: []string{"l"}})
	if err != nil {
		t.Fatal(err)
	}
	err = mounts.WithTemp(ctx, ms, func(root string) error {
		f, err := os.Open(filepath.Join(root, "sparse"))
		if err != nil {
			return err
		}
		defer f.Close()
		var p [6]byte
		_, err = f.ReadAt(p[:], 3<<20)
		if fi, _ := f.Stat(); string(p[:]) != "middle" || fi.Size() != 1<<40 {
			t.Errorf("%q of %d bytes", p, fi.Size())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	d.Remove(ctx, "v")
	d.Remove(ctx, "l")
}
