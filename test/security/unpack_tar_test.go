package security

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/erofs"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/overlayfs"
)

// unpackWays are all the ways by which a layer's tar becomes files: onto a
// complete tree, and by every driver that unpacks by itself. Each gets the
// folder to work in; the host's file to harm lies beside and above it. After
// the unpack, the result is mounted and looked at, as a container would.
func unpackWays(t *testing.T) map[string]func(dir string, tar io.Reader) error {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("unpacking as the daemon does needs root")
	}
	ctx := context.Background()
	byDriver := func(open func(string) (snapshotters.Unpacker, error)) func(string, io.Reader) error {
		return func(dir string, tar io.Reader) error {
			d, err := open(dir)
			if err != nil {
				return err
			}
			defer d.Close()
			if _, err := d.Unpack(ctx, "l", tar, nil); err != nil {
				if ids, _ := d.List(ctx); len(ids) != 0 {
					t.Errorf("a refused layer is left: %q", ids)
				}
				return err
			}
			defer d.Remove(ctx, "l")
			defer d.Remove(ctx, "x")
			ms, err := d.Create(ctx, snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Parents: []string{"l"}})
			if err != nil {
				return err
			}
			return mounts.WithTemp(ctx, ms, func(root string) error {
				return filepath.WalkDir(root, func(string, os.DirEntry, error) error { return nil })
			})
		}
	}
	ways := map[string]func(string, io.Reader) error{
		"tree": func(dir string, tar io.Reader) error {
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			_, err := layer.Apply(ctx, root, tar, layer.Options{})
			return err
		},
		"overlayfs": byDriver(func(dir string) (snapshotters.Unpacker, error) { return overlayfs.Open(dir, overlayfs.Config{}) }),
	}
	probe, err := erofs.Open(t.TempDir(), erofs.Config{})
	if err != nil {
		t.Log("without erofs:", err)
		return ways
	}
	probe.Close()
	ways["erofs"] = byDriver(func(dir string) (snapshotters.Unpacker, error) { return erofs.Open(dir, erofs.Config{}) })
	return ways
}

// entry is a member of a hostile layer; its size is that of body.
type entry struct {
	tar.Header
	body string
}

func hostile(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.Typeflag == 0 {
			e.Typeflag = tar.TypeReg
		}
		e.Size = int64(len(e.body))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string) entry {
	return entry{tar.Header{Name: name, Mode: 0o6777, Uid: 66, Gid: 66}, "evil"}
}

func symlink(name, to string) entry {
	return entry{Header: tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink, Mode: 0o777, Uid: 66}}
}

func hardlink(name, to string) entry {
	return entry{Header: tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink, Mode: 0o6777, Uid: 66}}
}

func folder(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o777, Uid: 66}}
}

// TestTarSlips tries every way out of the root that we know of. The victim must
// be what it was, down to its mode (CVE-2021-32760) and number of names.
func TestTarSlips(t *testing.T) {
	host := filepath.Join(t.TempDir(), "host") // an absolute place to aim at
	aim := host + "/victim"
	rows := map[string][]entry{
		"dotdot":                      {file("../victim")},
		"many dotdots":                {file("a/b/../../../../../../../../" + aim)},
		"dotdot at the end":           {folder("a/../..")},
		"absolute":                    {file(aim)},
		"symlink then file":           {symlink("s", host), file("s/victim")},
		"symlink then same name":      {symlink("s", aim), file("s")},
		"relative symlink then file":  {symlink("s", "../../.."), file("s/host/victim")},
		"chain of symlinks":           {symlink("a", "b"), symlink("b", "/c"), symlink("c", host), file("a/victim")},
		"dir replaced by symlink":     {folder("d"), file("d/f"), symlink("d", host), file("d/victim")},
		"deep dir replaced":           {folder("d/e/f"), file("d/e/f/x"), symlink("d/e", host), file("d/e/victim"), file("d/e/f/victim")},
		"symlink replaced by dir":     {symlink("d", host), file("d/x"), folder("d"), file("d/victim")},
		"hard link out":               {hardlink("h", "../victim"), file("h")},
		"hard link absolute":          {hardlink("h", aim), file("h")},
		"hard link through symlink":   {symlink("s", host), hardlink("h", "s/victim"), file("h")},
		"hard link to symlink":        {symlink("s", aim), hardlink("h", "s"), folder("h")},
		"mode through hard link":      {symlink("s", aim), {Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "s", Mode: 0o4777}}},
		"directory over symlink":      {symlink("s", host), folder("s")},
		"whiteout of dotdot":          {file("a/.wh..."), file(".wh...")},
		"whiteout of dot":             {file(".wh..")},
		"whiteout of nothing":         {file(".wh.")},
		"whiteout by symlink":         {symlink("s", host), file("s/.wh.victim")},
		"opaque by symlink":           {symlink("s", host), file("s/.wh..wh..opq")},
		"root is a symlink":           {symlink(".", host), file("victim")},
		"proc magic link":             {symlink("s", "/proc/self/root"), file("s" + aim)},
		"device over symlink":         {symlink("s", aim), {Header: tar.Header{Name: "s", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 1}}},
		"redirect attribute":          {{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": host}}}},
		"fifo where a file is opened": {{Header: tar.Header{Name: "f", Typeflag: tar.TypeFifo, Mode: 0o666}}, file("f")},
	}
	for way, unpack := range unpackWays(t) {
		for name, entries := range rows {
			t.Run(way+"/"+name, func(t *testing.T) {
				must(t, os.RemoveAll(host))
				must(t, os.Mkdir(host, 0o700))
				must(t, os.WriteFile(aim, []byte("innocent"), 0o600))
				base := t.TempDir()
				must(t, os.WriteFile(filepath.Join(base, "victim"), []byte("innocent"), 0o600))
				dir := filepath.Join(base, "deep")
				must(t, os.Mkdir(dir, 0o700))
				err := unpack(dir, bytes.NewReader(hostile(t, entries...)))
				t.Log("unpack says:", err)
				checkVictim(t, aim)
				checkVictim(t, filepath.Join(base, "victim"))
				for _, d := range []string{host, base} {
					if ents, _ := os.ReadDir(d); len(ents) > 2 || d == host && len(ents) != 1 {
						t.Errorf("something new in %s: %v", d, ents)
					}
				}
			})
		}
	}
}

func checkVictim(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	fi, serr := os.Lstat(path)
	if err != nil || serr != nil || string(b) != "innocent" || fi.Mode() != 0o600 {
		t.Errorf("the attack works: %q %v %v %v", b, fi, err, serr)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestClimbingNamesAreRefused: not only harmless, but an error that says so.
func TestClimbingNamesAreRefused(t *testing.T) {
	for way, unpack := range unpackWays(t) {
		for _, e := range []entry{file("../x"), file("a/../../x"), hardlink("h", "../x"), file(".wh..."), symlink("/", "x")} {
			if err := unpack(t.TempDir(), bytes.NewReader(hostile(t, e))); !errors.Is(err, layer.ErrBreakout) {
				t.Errorf("%s: %q: error %v", way, e.Name, err)
			}
		}
	}
}
