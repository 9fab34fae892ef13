package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("owners and devices need root")
	}
}

// archive makes a tar of headers; Reg entries hold their PAX record "body".
type member struct {
	tar.Header
	body string
}

func archive(t testing.TB, ms ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range ms {
		h := m.Header
		h.Size = int64(len(m.body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dir(name string, mode int64) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}}
}

func reg(name, body string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, body: body}
}

func sym(name, to string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}}
}

func hard(name, to string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}}
}

func apply(t testing.TB, root string, o Options, ms ...member) error {
	t.Helper()
	_, err := Apply(context.Background(), root, bytes.NewReader(archive(t, ms...)), o)
	return err
}

// show prints a tree, a line an entry, as much as a tar can tell of it.
func show(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %.40q", st.Mtim.Sec, b)
			if st.Nlink > 1 {
				if first[st.Ino] == "" {
					first[st.Ino] = rel
				}
				line += " =" + first[st.Ino]
			}
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" %d", st.Rdev)
		}
		d, err := openDir(unix.AT_FDCWD, filepath.Dir(p))
		if err != nil {
			return err
		}
		defer d.Close()
		xs, err := allXattrs(d, filepath.Base(p))
		for _, x := range xs {
			line += fmt.Sprintf(" %s=%q", x.name, x.value)
		}
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func TestApplyKinds(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	long := strings.Repeat("long/", 60) + strings.Repeat("n", 200)
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	f := member{Header: tar.Header{Name: "bin/su", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 7, Gid: 8, PAXRecords: map[string]string{
		"SCHILY.xattr.security.capability": caps, "SCHILY.xattr.user.colour": "red", "SCHILY.xattr.trusted.overlay.redirect": "/etc",
	}}, body: "suid"}
	err := apply(t, root, Options{},
		dir("bin/", 0o755), f, sym("sbin", "bin"), reg("sbin/through", "x"), hard("bin/hard", "sbin/su"),
		member{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		member{Header: tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o622}},
		reg(long, "deep"), dir("./late", 0o1777), reg("implied/dir/file", ""))
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root, "bin/su"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode&0o7777 != 0o4755 || st.Uid != 7 || st.Gid != 8 || st.Nlink != 2 || st.Mtim.Sec != 1700000000 {
		t.Errorf("bin/su: %+v", st)
	}
	got := show(t, root)
	for _, want := range []string{
		`security.capability=`, `user.colour="red"`, "bin/through 100644", "sbin 120777 0:0 -> bin", "null 20666 0:0 259",
		"pipe 10622", long + " 100644", "late 41777", "implied/dir 40755",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "overlay.redirect") {
		t.Error("an attribute of overlayfs came through")
	}
	unix.Lstat(filepath.Join(root, "bin"), &st)
	if st.Mtim.Sec != 1700000000 {
		t.Error("a directory's time is not the archive's")
	}
}

func TestWhiteoutsResolved(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	must(t, apply(t, root, Options{}, reg("a/old", ""), reg("a/keep", ""), reg("b/x/deep", ""), reg("b/y", ""), reg("c", "")))
	must(t, apply(t, root, Options{},
		reg("a/.wh.old", ""), reg("b/x/new", ""), reg("b/.wh..wh..opq", ""), reg("c", "new"), reg(".wh.c", ""), reg(".wh..wh.plnk/1", "")))
	for path, want := range map[string]bool{"a/old": false, "a/keep": true, "b/x/deep": false, "b/x/new": true, "b/y": false, "c": true} {
		if _, err := os.Lstat(filepath.Join(root, path)); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestWhiteoutsForOverlay(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	must(t, apply(t, root, Options{Whiteouts: Overlay},
		reg("a/.wh.gone", ""), dir("op", 0o755), reg("op/.wh..wh..opq", ""),
		reg(".wh.again", ""), dir("again", 0o755), dir("twice", 0o755), reg(".wh.twice", ""), reg(".wh.via", ""), reg("via/f", "")))
	got := show(t, root)
	for _, want := range []string{"a/gone 20000 0:0 0"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, d := range []string{"op", "again", "twice", "via"} {
		var b [4]byte
		if n, err := unix.Lgetxattr(filepath.Join(root, d), "trusted.overlay.opaque", b[:]); err != nil || string(b[:n]) != "y" {
			t.Errorf("%s isn't opaque: %v", d, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBreakouts(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		ms  []member
		err error // nil: must not fail
	}{
		"dotdot":           {[]member{reg("../out", "x")}, ErrBreakout},
		"hidden dotdot":    {[]member{reg("a/../../out", "x")}, ErrBreakout},
		"absolute":         {[]member{reg("/abs", "x")}, nil},
		"hard link":        {[]member{hard("h", "../secret")}, ErrBreakout},
		"absolute link":    {[]member{sym("s", "/"), reg("s/f", "x")}, nil},
		"relative link":    {[]member{sym("s", "../../../.."), reg("s/f", "x")}, nil},
		"link to itself":   {[]member{sym("s", "s"), reg("s/f", "x")}, unix.ELOOP},
		"hard link via":    {[]member{sym("s", ".."), hard("h", "s/secret")}, unix.ENOENT},
		"whiteout dotdot":  {[]member{reg(".wh...", "")}, ErrBreakout},
		"whiteout dot":     {[]member{reg(".wh..", "")}, ErrBreakout},
		"whiteout via":     {[]member{sym("s", ".."), reg("s/.wh.secret", "")}, nil},
		"root as link":     {[]member{sym("./", "..")}, ErrBreakout},
		"replaced by link": {[]member{reg("d/f", ""), sym("d", ".."), reg("d/secret", "evil")}, nil},
		"chmod by link":    {[]member{sym("l", "../secret"), {Header: tar.Header{Name: "l", Typeflag: tar.TypeReg, Mode: 0o777}}}, nil},
		"hard to symlink":  {[]member{sym("l", "../secret"), {Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l", Mode: 0o4777}}}, nil},
	} {
		for _, mode := range []Whiteouts{Resolve, Overlay} {
			base := t.TempDir()
			root := filepath.Join(base, "root")
			must(t, os.Mkdir(root, 0o755))
			must(t, os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o600))
			err := apply(t, root, Options{Whiteouts: mode}, c.ms...)
			if c.err == nil && err != nil || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%s: error %v, want %v", name, err, c.err)
			}
			b, err := os.ReadFile(filepath.Join(base, "secret"))
			fi, _ := os.Lstat(filepath.Join(base, "secret"))
			if err != nil || string(b) != "secret" || fi.Mode() != 0o600 {
				t.Fatalf("%s: the file outside is %q %v %v", name, b, fi, err)
			}
			if ents, _ := os.ReadDir(base); len(ents) != 2 {
				t.Fatalf("%s: something new outside: %v", name, ents)
			}
		}
	}
}

func TestReplacedLinkIsNotRemembered(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	must(t, apply(t, root, Options{}, dir("usr/bin/sub", 0o755), sym("bin", "usr/bin"), reg("bin/sub/one", ""),
		dir("bin", 0o755), reg("bin/sub/two", "")))
	if _, err := os.Lstat(filepath.Join(root, "usr/bin/sub/two")); err == nil {
		t.Error("an entry went through a link that was replaced")
	}
	if _, err := os.Lstat(filepath.Join(root, "bin/sub/two")); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	needRoot(t)
	many := []member{reg("a", "1234"), reg("b", "5678"), reg("c", "")}
	if err := apply(t, t.TempDir(), Options{MaxEntries: 2}, many...); !errors.Is(err, ErrLimit) {
		t.Error("entries:", err)
	}
	if err := apply(t, t.TempDir(), Options{MaxBytes: 7}, many...); !errors.Is(err, ErrLimit) {
		t.Error("bytes:", err)
	}
	big := member{Header: tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.big": strings.Repeat("x", 65<<10)}}}
	if err := apply(t, t.TempDir(), Options{}, big); !errors.Is(err, ErrLimit) {
		t.Error("xattr:", err)
	}
	if err := apply(t, t.TempDir(), Options{}, reg(strings.Repeat("d/", 2100)+"f", "")); !errors.Is(err, ErrLimit) {
		t.Error("depth:", err)
	}
	wide := make([]member, 0, 2000)
	for i := range 2000 {
		wide = append(wide, dir(fmt.Sprintf("d%d", i), 0o755))
	}
	must(t, apply(t, t.TempDir(), Options{}, wide...))
	ents, _ := os.ReadDir("/proc/self/fd")
	if len(ents) > 200 {
		t.Errorf("%d descriptors are left open", len(ents))
	}
}

func TestCutShort(t *testing.T) {
	needRoot(t)
	whole := archive(t, reg("a", strings.Repeat("x", 5000)), dir("d", 0o755))
	for _, n := range []int{100, 700, 4000} {
		if _, err := Apply(context.Background(), t.TempDir(), bytes.NewReader(whole[:n]), Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Put below an open directory, files follow that directory, not its name, and links
// that are there lead to the tree's root.
func TestApplyUnderAnOpenDirectory(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "a/sub"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "target"), 0o755))
	must(t, os.Symlink("/target", filepath.Join(root, "a/link")))
	base, err := os.Open(filepath.Join(root, "a"))
	must(t, err)
	defer base.Close()
	must(t, os.Rename(filepath.Join(root, "a"), filepath.Join(root, "moved")))
	must(t, os.Symlink("/target", filepath.Join(root, "a")))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "plain", Mode: 0o644}, {Name: "sub/.wh.x", Mode: 0o644},
		{Name: "link/through", Mode: 0o644}} {
		must(t, w.WriteHeader(&h))
	}
	must(t, w.Close())
	raw := b.Bytes()
	opts := Options{Whiteouts: Plain, KeepRoot: true, KeepKinds: true, Under: "a", Base: base}
	_, err = Apply(context.Background(), root, bytes.NewReader(raw), opts)
	must(t, err)
	for _, name := range []string{"moved/plain", "moved/sub/.wh.x", "target/through"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if st, _ := os.Stat(filepath.Join(root, "moved")); st.Mode().Perm() != 0o755 {
		t.Errorf("the directory itself has changed: %v", st.Mode())
	}
	var out bytes.Buffer
	w = tar.NewWriter(&out)
	must(t, w.WriteHeader(&tar.Header{Name: "sub", Mode: 0o644}))
	must(t, w.Close())
	var kind *KindError
	if _, err = Apply(context.Background(), root, &out, opts); !errors.As(err, &kind) || !kind.IsDir {
		t.Errorf("a file in the place of a directory: %v", err)
	}
}
