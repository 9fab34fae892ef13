package erofs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// reader reads an image as the format's description says, and nothing else; it
// shares no code with the writer. Every step is checked against the image's bounds.
type reader struct {
	image []byte
	tar   int64 // its size
}

// found is an inode as read.
type found struct {
	mode, format  uint16
	size          int64
	block         uint32 // of plain data, or of the tar
	uid, gid, nln uint32
	xattrs        []tarstream.Xattr
	data          []byte // of directories and links
}

func (r *reader) at(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off+n > int64(len(r.image)) {
		return nil, fmt.Errorf("%d bytes at %d are outside of the image", n, off)
	}
	return r.image[off : off+n], nil
}

func (r *reader) root() (uint64, error) {
	sb, err := r.at(1024, 128)
	if err != nil {
		return 0, err
	}
	if le.Uint32(sb) != 0xE0F5E1E2 || sb[12] != 9 {
		return 0, errors.New("no superblock")
	}
	if blocks := int64(le.Uint32(sb[36:])); blocks*512 != int64(len(r.image)) {
		return 0, fmt.Errorf("%d blocks in %d bytes", blocks, len(r.image))
	}
	return uint64(le.Uint16(sb[14:])), nil
}

func (r *reader) inode(nid uint64) (*found, error) {
	pos := int64(nid) * 32
	b, err := r.at(pos, 64)
	if err != nil {
		return nil, err
	}
	if pos/512 != (pos+63)/512 {
		return nil, fmt.Errorf("inode %d crosses blocks", nid)
	}
	f := &found{format: le.Uint16(b), mode: le.Uint16(b[4:]), size: int64(le.Uint64(b[8:])), block: le.Uint32(b[16:]),
		uid: le.Uint32(b[24:]), gid: le.Uint32(b[28:]), nln: le.Uint32(b[44:])}
	if f.format&1 != 1 {
		return nil, fmt.Errorf("inode %d isn't extended", nid)
	}
	pos += 64
	if n := int64(le.Uint16(b[2:])); n > 0 {
		size := 12 + (n-1)*4
		area, err := r.at(pos, size)
		if err != nil {
			return nil, err
		}
		if f.xattrs, err = readXattrs(area[12:]); err != nil {
			return nil, err
		}
		pos += size
	}
	return f, r.data(f, pos)
}

func readXattrs(b []byte) (out []tarstream.Xattr, err error) {
	prefix := map[byte]string{1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, errors.New("attribute cut short")
		}
		name, value := int(b[0]), int(le.Uint16(b[2:]))
		if 4+name+value > len(b) {
			return nil, errors.New("attribute reaches out of its area")
		}
		out = append(out, tarstream.Xattr{Name: prefix[b[1]] + string(b[4:4+name]), Value: string(b[4+name : 4+name+value])})
		b = b[(4+name+value+3)&^3:]
	}
	return out, nil
}

// data reads what directories and links hold, and where files lie in the tar.
func (r *reader) data(f *found, pos int64) error {
	whole := f.size &^ 511
	switch f.format >> 1 & 7 {
	case 0:
		if f.mode&0o170000 != 0o040000 && f.mode&0o170000 != 0o120000 {
			return nil
		}
		p, err := r.at(int64(f.block)*512, f.size)
		f.data = p
		return err
	case 2:
		p, err := r.at(int64(f.block)*512, whole)
		if err != nil {
			return err
		}
		tail, err := r.at(pos, f.size-whole)
		if pos/512 != (pos+f.size-whole-1)/512 {
			return errors.New("an inline tail crosses blocks")
		}
		f.data = append(bytes.Clone(p), tail...)
		return err
	case 4:
		c, err := r.at((pos+7)&^7, 8)
		if err != nil {
			return err
		}
		f.block = le.Uint32(c[4:])
		if int64(f.block)*512+f.size > r.tar || le.Uint16(c[2:]) != 1 {
			return fmt.Errorf("a file's %d bytes from block %d are outside of the tar", f.size, f.block)
		}
		return nil
	}
	return fmt.Errorf("layout %d", f.format>>1&7)
}

// entries reads a directory.
func (f *found) entries() (map[string]uint64, error) {
	out, last := map[string]uint64{}, ""
	for b := f.data; len(b) > 0; {
		block := b[:min(len(b), 512)]
		b = b[len(block):]
		n := int(le.Uint16(block[8:])) / 12
		for i := range n {
			e := block[i*12:]
			from, to := int(le.Uint16(e[8:])), len(block)
			if i+1 < n {
				to = int(le.Uint16(e[12+8:]))
			}
			if from > to || to > len(block) {
				return nil, errors.New("a name is outside of its block")
			}
			name := strings.TrimRight(string(block[from:to]), "\x00")
			if name <= last {
				return nil, fmt.Errorf("%q stands behind %q", name, last)
			}
			last = name
			out[name] = le.Uint64(e)
		}
	}
	return out, nil
}

// compare walks image and tree together, and counts each file's names.
func (r *reader) compare(nid uint64, n *inode, parent uint64, links map[*inode]uint32) error {
	f, err := r.inode(nid)
	if err != nil {
		return err
	}
	if uint32(f.mode) != n.mode || f.uid != n.uid || f.gid != n.gid {
		return fmt.Errorf("mode %o, owner %d:%d, want %o, %d:%d", f.mode, f.uid, f.gid, n.mode, n.uid, n.gid)
	}
	if err := sameXattrs(f.xattrs, n); err != nil {
		return err
	}
	links[n]++
	switch {
	case n.isLink() && string(f.data) != n.link:
		return fmt.Errorf("link to %q, want %q", f.data, n.link)
	case n.isFile() && (f.size != n.size || n.size > 0 && f.block != n.block):
		return fmt.Errorf("%d bytes from block %d, want %d from %d", f.size, f.block, n.size, n.block)
	case !n.isDir():
		return nil
	}
	children, err := f.entries()
	if err != nil {
		return err
	}
	if len(children) != len(n.children)+2 || children["."] != nid || children[".."] != parent {
		return fmt.Errorf("%d entries for %d children, or dots that lead elsewhere", len(children), len(n.children))
	}
	for name, child := range n.children {
		if err := r.compare(children[name], child, nid, links); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return nil
}

func sameXattrs(got []tarstream.Xattr, n *inode) error {
	have := map[string]string{}
	for _, x := range got {
		if _, twice := have[x.Name]; twice {
			return fmt.Errorf("attribute %q is there twice", x.Name)
		}
		have[x.Name] = x.Value
	}
	for _, x := range n.xattrs {
		kept := x.Name == "system.posix_acl_access" || x.Name == "system.posix_acl_default"
		for _, p := range []string{"user.", "trusted.", "security."} {
			kept = kept || strings.HasPrefix(x.Name, p)
		}
		if v, ok := have[x.Name]; kept && (!ok || v != x.Value) {
			return fmt.Errorf("attribute %q has %d bytes, want %d", x.Name, len(v), len(x.Value))
		}
	}
	return nil
}

// FuzzImage makes an image of any archive and reads it back.
func FuzzImage(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "d/f", Size: 3, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "d"}, {Name: "s/.wh.x"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"},
		{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, {Name: "d/.wh..wh..opq"}, {Name: strings.Repeat("n", 255)},
		{Name: "d", Typeflag: tar.TypeSymlink, Linkname: "elsewhere"},
	} {
		w.WriteHeader(h)
		w.Write(make([]byte, h.Size))
	}
	w.Close()
	f.Add(b.Bytes())
	f.Fuzz(writeAndRead)
}

// FuzzEntries makes archives of few names, so that entries meet: every two bytes
// are an entry's type and name, and where a link leads.
func FuzzEntries(f *testing.F) {
	f.Add([]byte{0x15, 0, 0x02, 1, 0x21, 3, 0x15, 2})
	paths := []string{"a", "a/b", "a/b/c", "d", "d/a", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", "d/../a", "./a/b", "d/b/c", ".wh.d", ".", "b", "b/a", "a/b/.wh.c"}
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeChar, tar.TypeFifo, tar.TypeReg, tar.TypeDir}
	f.Fuzz(func(t *testing.T, in []byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for ; len(in) >= 2 && b.Len() < 1<<19; in = in[2:] {
			h := &tar.Header{Name: paths[in[0]&15], Typeflag: types[in[0]>>4&7], Mode: int64(in[1]) & 0o777}
			switch h.Typeflag {
			case tar.TypeSymlink, tar.TypeLink:
				h.Linkname = paths[in[1]&15]
			case tar.TypeReg:
				h.Size = int64(in[1]) * 7
			}
			if w.WriteHeader(h) == nil {
				w.Write(make([]byte, h.Size))
			}
		}
		w.Close()
		writeAndRead(t, b.Bytes())
	})
}

func writeAndRead(t *testing.T, in []byte) {
	r := &reader{tar: (int64(len(in)) + 511) &^ 511}
	tree, err := readTree(context.Background(), bytes.NewReader(in), limits{entries: 1000})
	if err != nil {
		return
	}
	var out bytes.Buffer
	if _, err := writeImage(&out, tree, int64(len(in))); err != nil {
		if errors.Is(err, errNotRepresentable) {
			return
		}
		t.Fatal(err)
	}
	r.image = out.Bytes()
	root, err := r.root()
	if err != nil {
		t.Fatal(err)
	}
	links := map[*inode]uint32{}
	if err := r.compare(root, tree.root, root, links); err != nil {
		t.Fatal(err)
	}
	for n, count := range links {
		if !n.isDir() && n.nlink != count {
			t.Fatalf("a file has %d names and says %d", count, n.nlink)
		}
	}
}
