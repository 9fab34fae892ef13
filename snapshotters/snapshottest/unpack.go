package snapshottest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/layer"
)

// file is a member of a test layer.
type file struct {
	name string
	kind byte
	mode int64
	text string // content, or where a link leads
	attr map[string]string
}

func (s *suite) tar(files ...file) []byte {
	s.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: f.mode, Uid: 11, Gid: 12, ModTime: time.Unix(1600000000, 0), Format: tar.FormatPAX}
		switch f.kind {
		case tar.TypeReg:
			h.Size = int64(len(f.text))
		case tar.TypeChar:
			h.Devmajor, h.Devminor = 1, 3
		default:
			h.Linkname = f.text
		}
		for k, v := range f.attr {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		s.ok(w.WriteHeader(h))
		if f.kind == tar.TypeReg {
			_, err := io.WriteString(w, f.text)
			s.ok(err)
		}
	}
	s.ok(w.Close())
	return b.Bytes()
}

func (s *suite) unpacker() snapshotters.Unpacker {
	s.Helper()
	u, ok := s.d.(snapshotters.Unpacker)
	if !ok {
		s.Skip("not an Unpacker")
	}
	return u
}

const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// layers are three of an image, the lowest first.
func (s *suite) layers() [][]byte {
	big := strings.Repeat("0123456789abcdef", 300<<10/16) + "end"
	return [][]byte{
		s.tar(file{name: "./", kind: tar.TypeDir, mode: 0o751},
			file{name: "bin/", kind: tar.TypeDir, mode: 0o755}, file{name: "bin/su", kind: tar.TypeReg, mode: 0o4755, text: "su", attr: map[string]string{"security.capability": capability, "user.x": "y"}},
			file{name: "bin/hard", kind: tar.TypeLink, text: "bin/su"}, file{name: "sbin", kind: tar.TypeSymlink, text: "bin"}, file{name: "sbin/via", kind: tar.TypeReg, mode: 0o600, text: "via"},
			file{name: "dev/null", kind: tar.TypeChar, mode: 0o666}, file{name: "dev/pipe", kind: tar.TypeFifo, mode: 0o600},
			file{name: "big", kind: tar.TypeReg, mode: 0o644, text: big}, file{name: "empty", kind: tar.TypeReg, mode: 0o644},
			file{name: "d/gone", kind: tar.TypeReg, mode: 0o644, text: "1"}, file{name: "d/stay", kind: tar.TypeReg, mode: 0o644, text: "1"},
			file{name: "op/old", kind: tar.TypeReg, mode: 0o644, text: "1"}, file{name: "swap/old", kind: tar.TypeReg, mode: 0o644, text: "1"}),
		s.tar(file{name: "d/.wh.gone", kind: tar.TypeReg}, file{name: "op/", kind: tar.TypeDir, mode: 0o700}, file{name: "op/.wh..wh..opq", kind: tar.TypeReg},
			file{name: "op/new", kind: tar.TypeReg, mode: 0o644, text: "2"}, file{name: ".wh.swap", kind: tar.TypeReg}, file{name: "swap/", kind: tar.TypeDir, mode: 0o755}),
		s.tar(file{name: "top", kind: tar.TypeReg, mode: 0o644, text: "3"}),
	}
}

// unpackAll unpacks layers as l0, l1, … side by side, in any order.
func (s *suite) unpackAll(layers [][]byte) (parents []string) {
	s.Helper()
	u := s.unpacker()
	var wg sync.WaitGroup
	for i, l := range layers {
		id := fmt.Sprintf("l%d", i)
		parents = append([]string{id}, parents...)
		wg.Go(func() {
			got, err := u.Unpack(s.ctx, id, iotest.HalfReader(bytes.NewReader(l)), nil)
			if err != nil || got.Inodes == 0 || got.Size == 0 {
				s.Error(id, got, err)
			}
		})
	}
	wg.Wait()
	s.ok(u.Sync(s.ctx, parents))
	return parents
}

func (s *suite) unpack() {
	s.unpacker()
	layers := s.layers()
	parents := s.unpackAll(layers)
	check := func(r string) {
		s.has(r+"/bin/via", "via")
		s.has(r+"/d/gone", "")
		s.has(r+"/d/stay", "1")
		s.has(r+"/op/old", "")
		s.has(r+"/op/new", "2")
		s.has(r+"/swap/old", "")
		s.has(r+"/top", "3")
		var st, hard unix.Stat_t
		s.ok(unix.Stat(r+"/bin/su", &st))
		s.ok(unix.Stat(r+"/bin/hard", &hard))
		if st.Mode&0o7777 != 0o4755 || st.Uid != 11 || st.Gid != 12 || st.Nlink != 2 || st.Ino != hard.Ino || st.Mtim.Sec != 1600000000 {
			s.Errorf("bin/su: %+v", st)
		}
		s.xattr(r+"/bin/su", "security.capability", capability)
		s.xattr(r+"/bin/su", "user.x", "y")
		s.ok(unix.Stat(r+"/dev/null", &st))
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
			s.Errorf("dev/null: %+v", st)
		}
		b, err := os.ReadFile(r + "/big")
		if err != nil || len(b) != 300<<10+3 || !bytes.HasSuffix(b, []byte("fend")) || !bytes.HasPrefix(b[200<<10:], []byte("0123")) {
			s.Errorf("big: %d bytes, %v", len(b), err)
		}
	}
	s.in(view("v", parents...), check)
	s.in(active("x", parents...), func(r string) {
		check(r)
		s.ok(unix.Stat(r, new(unix.Stat_t)))
		s.write(r+"/bin/su", "changed")
		s.ok(os.RemoveAll(r + "/d"))
	})
}

func (s *suite) xattr(path, name, want string) {
	s.Helper()
	var b [256]byte
	n, err := unix.Lgetxattr(path, name, b[:])
	if err != nil || string(b[:n]) != want {
		s.Errorf("%s of %s: %q %v", name, path, b[:max(n, 0)], err)
	}
}

func (s *suite) unpackFails() {
	u := s.unpacker()
	whole := s.layers()[0]
	for _, r := range []io.Reader{
		bytes.NewReader(whole[:len(whole)/2]),
		io.MultiReader(bytes.NewReader(whole[:1024]), iotest.ErrReader(io.ErrClosedPipe)),
		strings.NewReader("no tar at all" + strings.Repeat("x", 2000)),
		bytes.NewReader(s.tar(file{name: "../out", kind: tar.TypeReg, mode: 0o644})),
	} {
		if _, err := u.Unpack(s.ctx, "bad", r, nil); err == nil {
			s.Error("a broken layer was unpacked")
		}
		if got := s.ids(); len(got) != 0 {
			s.Errorf("left behind: %q", got)
		}
	}
	if _, err := u.Unpack(s.ctx, "bad", bytes.NewReader(whole), nil); err != nil {
		s.Error("the ID can't be used again:", err)
	}
}

func (s *suite) mixed() {
	s.unpacker()
	parents := s.unpackAll(s.layers()[:2])
	s.layer("made", parents, func(r string) {
		s.has(r+"/op/new", "2")
		s.ok(os.Remove(r + "/op/new"))
		s.write(r+"/made", "m")
	})
	_, err := s.unpacker().Unpack(s.ctx, "last", bytes.NewReader(s.layers()[2]), nil)
	s.ok(err)
	s.in(active("x", append([]string{"last", "made"}, parents...)...), func(r string) {
		s.has(r+"/top", "3")
		s.has(r+"/made", "m")
		s.has(r+"/op/new", "")
		s.has(r+"/bin/via", "via")
	})
}

func (s *suite) manyLayers() {
	s.unpacker()
	var layers [][]byte
	for i := range 60 {
		layers = append(layers, s.tar(file{name: fmt.Sprintf("f%d", i), kind: tar.TypeReg, mode: 0o644, text: "x"}, file{name: "same", kind: tar.TypeReg, mode: 0o644, text: fmt.Sprint(i)}))
	}
	s.in(active("x", s.unpackAll(layers)...), func(r string) {
		s.has(r+"/f0", "x")
		s.has(r+"/f59", "x")
		s.has(r+"/same", "59")
	})
}

// diff checks that parents and the diff together are the snapshot again.
func (s *suite) diff() {
	d, ok := s.d.(snapshotters.Differ)
	if !ok {
		s.Skip("not a Differ")
	}
	s.layer("base", nil, func(r string) { s.write(r+"/d/gone", "1"); s.write(r+"/d/stay", "1"); s.write(r+"/e/f", "1") })
	st := active("x", "base")
	s.in(st, func(r string) {
		s.ok(os.Remove(r + "/d/gone"))
		s.ok(os.RemoveAll(r + "/e"))
		s.ok(os.Mkdir(r+"/e", 0o700))
		s.write(r+"/new", "2")
	})
	var b bytes.Buffer
	s.ok(d.Diff(s.ctx, st, &b))
	if bytes.Contains(b.Bytes(), []byte("d/stay")) {
		s.Error("the diff holds an unchanged file")
	}
	ms, err := s.d.Create(s.ctx, active("y", "base"))
	s.ok(err)
	s.ok(mounts.WithTemp(s.ctx, ms, func(root string) error {
		_, err := layer.Apply(s.ctx, root, &b, layer.Options{})
		return err
	}))
	s.mounted(ms, func(r string) {
		s.has(r+"/d/gone", "")
		s.has(r+"/d/stay", "1")
		s.has(r+"/e/f", "")
		s.has(r+"/new", "2")
	})
	b.Reset()
	s.in(view("v", "base"), func(string) {})
	s.ok(d.Diff(s.ctx, view("v", "base"), &b))
	if _, err := tar.NewReader(&b).Next(); err != io.EOF {
		s.Error("the diff of a view isn't empty:", err)
	}
}
