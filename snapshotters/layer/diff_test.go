package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
)

// randomTree makes a layer of a seeded random tree.
func randomTree(r *rand.Rand, n int) []member {
	dirs := []string{""}
	var files []string
	var ms []member
	for i := range n {
		at := dirs[r.IntN(len(dirs))]
		name := fmt.Sprintf("%s%d", at, i)
		h := tar.Header{Name: name, Mode: int64(r.IntN(0o10000)), Uid: r.IntN(3), Gid: r.IntN(70000), ModTime: time.Unix(r.Int64N(2e9), 0)}
		var body string
		switch k := r.IntN(10); {
		case k < 3:
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
			dirs = append(dirs, name+"/")
		case k == 3:
			h.Typeflag, h.Linkname = tar.TypeSymlink, fmt.Sprintf("../%d", r.IntN(n))
		case k == 4 && len(files) > 0:
			h.Typeflag, h.Linkname = tar.TypeLink, files[r.IntN(len(files))]
		case k == 5:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(1+r.IntN(5)), int64(r.IntN(300))
		default:
			h.Typeflag = tar.TypeReg
			body = string(bytes.Repeat([]byte{byte(i)}, r.IntN(9000)))
			files = append(files, name)
			if k == 6 {
				h.PAXRecords = map[string]string{"SCHILY.xattr.user.n": name}
			}
		}
		ms = append(ms, member{h, body})
	}
	return ms
}

func TestRoundTrip(t *testing.T) {
	needRoot(t)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		first, second := t.TempDir(), t.TempDir()
		must(t, apply(t, first, Options{}, randomTree(r, 150)...))
		var b bytes.Buffer
		must(t, Diff(context.Background(), "", first, &b, DiffOptions{}))
		_, err := Apply(context.Background(), second, &b, Options{})
		must(t, err)
		if a, b := show(t, first), show(t, second); a != b {
			t.Fatalf("seed %d:\n%s\n---\n%s", seed, a, b)
		}
	}
}

// TestDiffOfTwoTrees: lower + Diff(lower, upper) = upper.
func TestDiffOfTwoTrees(t *testing.T) {
	needRoot(t)
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		lower, copied, upper := t.TempDir(), t.TempDir(), t.TempDir()
		var layer []member
		for _, m := range randomTree(r, 120) {
			if m.Typeflag != tar.TypeLink { // links across trees are not kept
				layer = append(layer, m)
			}
		}
		for _, root := range []string{lower, copied, upper} {
			must(t, apply(t, root, Options{}, layer...))
		}
		for range 30 {
			m := layer[r.IntN(len(layer))]
			p := filepath.Join(upper, m.Name)
			switch r.IntN(4) {
			case 0:
				os.RemoveAll(p)
			case 1:
				os.RemoveAll(p)
				os.MkdirAll(p, 0o700)
			case 2:
				os.Lchown(p, 5, 5)
			default:
				os.WriteFile(filepath.Join(filepath.Dir(p), "new"), []byte(m.Name), 0o600)
			}
		}
		var b bytes.Buffer
		must(t, Diff(context.Background(), lower, upper, &b, DiffOptions{}))
		_, err := Apply(context.Background(), copied, &b, Options{})
		must(t, err)
		if a, b := show(t, upper), show(t, copied); a != b {
			t.Fatalf("seed %d: want\n%s\n--- got\n%s", seed, a, b)
		}
	}
}

func TestDiffUpperOfOverlay(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "copy", "empty"} {
		must(t, os.Mkdir(filepath.Join(base, d), 0o755))
	}
	tree := []member{dir("d", 0o755), reg("d/gone", "x"), reg("d/kept", "x"), dir("swap", 0o755), reg("swap/old", ""), reg("changed", "1")}
	must(t, apply(t, filepath.Join(base, "lower"), Options{}, tree...))
	must(t, apply(t, filepath.Join(base, "copy"), Options{}, tree...))
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{"index=off",
		"lowerdir=" + base + "/lower", "upperdir=" + base + "/upper", "workdir=" + base + "/work"}}
	var want string
	must(t, mounts.WithTemp(context.Background(), []mount.Mount{m}, func(root string) error {
		must(t, os.Remove(root+"/d/gone"))
		must(t, os.RemoveAll(root+"/swap"))
		must(t, os.Mkdir(root+"/swap", 0o700))
		must(t, os.WriteFile(root+"/swap/new", []byte("n"), 0o600))
		must(t, os.WriteFile(root+"/changed", []byte("2"), 0o644))
		must(t, unix.Mknod(root+"/sock", unix.S_IFSOCK|0o600, 0))
		must(t, os.Remove(root+"/sock"))
		want = show(t, root)
		return nil
	}))
	var b bytes.Buffer
	must(t, DiffUpper(context.Background(), filepath.Join(base, "upper"), &b, DiffOptions{}))
	names := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(b.Bytes())); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		names[h.Name] = true
	}
	for _, n := range []string{"d/.wh.gone", "swap/.wh..wh..opq", "swap/new", "changed"} {
		if !names[n] {
			t.Errorf("no %s in %v", n, names)
		}
	}
	if names["d/kept"] {
		t.Error("an unchanged file is in the layer")
	}
	_, err := Apply(context.Background(), filepath.Join(base, "copy"), &b, Options{})
	must(t, err)
	if got := show(t, filepath.Join(base, "copy")); got != want {
		t.Errorf("want\n%s\ngot\n%s", want, got)
	}
	must(t, unix.Setxattr(filepath.Join(base, "upper/swap"), "trusted.overlay.redirect", []byte("/d"), 0))
	if err := DiffUpper(context.Background(), filepath.Join(base, "upper"), io.Discard, DiffOptions{}); !errors.Is(err, ErrNotDiffable) {
		t.Error("a redirected directory:", err)
	}
}

func TestSourceDateEpoch(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "f"), nil, 0o600))
	at := time.Unix(1000, 0)
	var b bytes.Buffer
	must(t, Diff(context.Background(), "", root, &b, DiffOptions{SourceDateEpoch: &at}))
	h, err := tar.NewReader(&b).Next()
	if err != nil || !h.ModTime.Equal(at) {
		t.Error(h, err)
	}
}

func TestSparseFile(t *testing.T) {
	needRoot(t)
	root, second := t.TempDir(), t.TempDir()
	f, err := os.Create(filepath.Join(root, "s"))
	must(t, err)
	must(t, f.Truncate(64<<20))
	_, err = f.WriteAt([]byte("middle"), 32<<20)
	must(t, err)
	f.Close()
	var b bytes.Buffer
	must(t, Diff(context.Background(), "", root, &b, DiffOptions{}))
	_, err = Apply(context.Background(), second, &b, Options{})
	must(t, err)
	x, _ := os.ReadFile(filepath.Join(root, "s"))
	y, _ := os.ReadFile(filepath.Join(second, "s"))
	if !bytes.Equal(x, y) {
		t.Error("contents differ")
	}
}

func TestDecompress(t *testing.T) {
	text := bytes.Repeat([]byte("some text, "), 10000)
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(text[:50000])
	g.Close()
	g.Reset(&gz) // a blob of two members
	g.Write(text[50000:])
	g.Close()
	z, _ := zstd.NewWriter(&zs)
	z.Write(text)
	z.Close()
	for name, blob := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes(), "none": text, "empty": nil} {
		r, err := Decompress(bytes.NewReader(blob), "")
		must(t, err)
		got, err := io.ReadAll(r)
		r.Close()
		if name == "empty" {
			if err != nil || len(got) != 0 {
				t.Error(name, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if name != "none" {
			r, err := Decompress(bytes.NewReader(blob[:len(blob)-9]), "")
			if err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
			if err == nil {
				t.Errorf("%s: a blob cut short is no error", name)
			}
		}
	}
}

func FuzzApply(f *testing.F) {
	f.Add(archive(f, dir("d", 0o755), reg("d/f", "x"), sym("s", ".."), hard("h", "d/f"), reg("d/.wh.f", ""), reg(".wh..wh..opq", "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		base := t.TempDir()
		root := filepath.Join(base, "root")
		must(t, os.Mkdir(root, 0o755))
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, w := range []Whiteouts{Resolve, Overlay} {
			_, _ = Apply(ctx, root, bytes.NewReader(b), Options{Whiteouts: w})
		}
		if ents, _ := os.ReadDir(base); len(ents) != 1 {
			t.Fatal("something outside of the root")
		}
	})
}

func FuzzDecompress(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decompress(bytes.NewReader(b), "")
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.CopyN(io.Discard, r, 8<<20)
	})
}
