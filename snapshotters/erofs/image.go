package erofs

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/bits"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// The image's format is the kernel's documented on-disk format of EROFS, in
// blocks of 512 bytes, which are those of tar. File data are on an external
// device, the tar; a file is one chunk of it. All inodes are of the extended
// form. Directories and symbolic links lie behind their inode as far as they
// fit into its block, the rest in blocks after the inodes.
const (
	blockBits = 9
	blockSize = 1 << blockBits

	superOffset  = 1024
	superMagic   = 0xE0F5E1E2
	deviceOffset = superOffset + 128
	firstInode   = deviceOffset + 128
	inodeSize    = 64
	slotBits     = 5 // inodes are numbered by their offset in 32 bytes

	incompatChunks  = 0x4
	incompatDevices = 0x8

	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	chunkIndexes = 0x20
	// maxFile is what one chunk spans: 2^31 blocks.
	maxFile = 1 << (31 + blockBits)
	// maxValue is what the size of an attribute's value can say; Linux takes one
	// byte more.
	maxValue = 1<<16 - 1
	// maxXattrs is what the count of an inode's attribute area can say.
	maxXattrs = (1<<16 - 2) * 4
)

var le = binary.LittleEndian

// place is where an inode lies.
type place struct {
	set    bool
	pos    int64  // of the inode
	xattrs []byte // encoded
	length int64  // of a directory's or a link's data
	layout uint16
	block  int64 // of whole blocks of data outside of the inode
}

func (p *place) nid() uint64 { return uint64(p.pos) >> slotBits }

// imageWriter lays out and writes one image.
type imageWriter struct {
	order []*inode
	pos   int64 // during layout: the end of the inodes
	data  int64 // during layout: blocks of data so far
}

// writeImage writes the image of a tree whose data are in a tar of tarSize
// bytes, and returns its size.
func writeImage(out io.Writer, t *tree, tarSize int64) (int64, error) {
	w := &imageWriter{pos: firstInode}
	if err := w.layout(t.root); err != nil {
		return 0, err
	}
	base := (w.pos + blockSize - 1) >> blockBits
	total := base + w.data
	b := bufio.NewWriterSize(out, 256<<10)
	o := &counted{w: b}
	o.pad(superOffset)
	o.write(w.super(t.root, total))
	o.write(device(tarSize))
	for _, n := range w.order {
		o.pad(n.at.pos)
		o.write(n.at.header(n, base))
		o.write(n.at.xattrs)
		switch {
		case n.at.layout == layoutChunks:
			o.pad((o.n + 7) &^ 7)
			o.write(chunk(n.block))
		case n.at.layout == layoutInline:
			o.write(content(n)[n.at.length&^(blockSize-1):])
		}
	}
	for _, n := range w.order {
		if n.at.length == 0 {
			continue
		}
		p := content(n)
		if n.at.layout == layoutInline {
			p = p[:n.at.length&^(blockSize-1)]
		}
		if len(p) > 0 {
			o.pad((base + n.at.block) << blockBits)
			o.write(p)
		}
	}
	o.pad(total << blockBits)
	if o.err == nil {
		o.err = b.Flush()
	}
	return o.n, o.err
}

// layout gives every inode its place, directories before what is in them.
func (w *imageWriter) layout(root *inode) error {
	queue := []*inode{root}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if n.at.set {
			continue // another name of a file
		}
		if err := w.give(n); err != nil {
			return err
		}
		if !n.isDir() {
			continue
		}
		for _, name := range names(n) {
			if child := n.children[name]; child != nil {
				queue = append(queue, child)
				if child.isDir() {
					n.nlink++
				}
			}
		}
	}
	return nil
}

// give places one inode.
func (w *imageWriter) give(n *inode) error {
	xs := encodeXattrs(n)
	if len(xs) > maxXattrs || slices.ContainsFunc(n.xattrs, func(x tarstream.Xattr) bool { return len(x.Value) > maxValue }) {
		return errNotRepresentable
	}
	p := place{set: true, xattrs: xs, layout: layoutPlain}
	inline := int64(0)
	switch {
	case n.isFile() && n.size > 0:
		p.layout = layoutChunks
	case n.isDir():
		p.length = dirSize(names(n))
	case n.isLink():
		p.length = int64(len(n.link))
	}
	if tail := p.length & (blockSize - 1); tail > 0 && inodeSize+int64(len(xs))+tail <= blockSize {
		p.layout, inline = layoutInline, tail
	}
	// The inode itself, and an inline tail, must not cross blocks.
	together := int64(inodeSize)
	if inline > 0 {
		together += int64(len(xs)) + inline
	}
	p.pos = (w.pos + 31) &^ 31
	if p.pos&(blockSize-1)+together > blockSize {
		p.pos = (p.pos + blockSize - 1) &^ (blockSize - 1)
	}
	w.pos = p.pos + inodeSize + int64(len(xs)) + inline
	if p.layout == layoutChunks {
		w.pos = (w.pos+7)&^7 + 8
	}
	if whole := p.length - inline; whole > 0 {
		p.block = w.data
		w.data += (whole + blockSize - 1) >> blockBits
	}
	n.at = p
	w.order = append(w.order, n)
	return nil
}

// header encodes an inode.
func (p *place) header(n *inode, base int64) []byte {
	b := make([]byte, inodeSize)
	le.PutUint16(b[0:], 1|p.layout<<1)
	if len(p.xattrs) > 0 {
		le.PutUint16(b[2:], uint16((len(p.xattrs)-12)/4+1))
	}
	le.PutUint16(b[4:], uint16(n.mode))
	size := n.size
	if n.isDir() {
		size = p.length
	}
	le.PutUint64(b[8:], uint64(size))
	switch {
	case p.layout == layoutChunks:
		le.PutUint16(b[16:], chunkIndexes|uint16(bits.Len64(uint64(n.size-1)>>blockBits)))
	case n.isDir() || n.isLink():
		le.PutUint32(b[16:], uint32(base+p.block))
	default:
		le.PutUint32(b[16:], n.rdev)
	}
	le.PutUint32(b[20:], uint32(p.nid()))
	le.PutUint32(b[24:], n.uid)
	le.PutUint32(b[28:], n.gid)
	if !n.mtime.IsZero() { // directories that no entry describes have none
		le.PutUint64(b[32:], uint64(n.mtime.Unix()))
		le.PutUint32(b[40:], uint32(n.mtime.Nanosecond()))
	}
	le.PutUint32(b[44:], n.nlink)
	return b
}

// chunk encodes where on the first extra device a file begins.
func chunk(block uint32) []byte {
	b := make([]byte, 8)
	le.PutUint16(b[2:], 1)
	le.PutUint32(b[4:], block)
	return b
}

func (w *imageWriter) super(root *inode, blocks int64) []byte {
	b := make([]byte, 128)
	le.PutUint32(b[0:], superMagic)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(root.at.nid()))
	le.PutUint64(b[16:], uint64(len(w.order)))
	le.PutUint32(b[36:], uint32(blocks))
	le.PutUint32(b[80:], incompatChunks|incompatDevices)
	le.PutUint16(b[86:], 1)                // extra devices
	le.PutUint16(b[88:], deviceOffset/128) // their table
	return b
}

func device(size int64) []byte {
	b := make([]byte, 128)
	le.PutUint32(b[64:], uint32(max(1, (size+blockSize-1)>>blockBits)))
	return b
}

// names are a directory's entries in the format's order, which is that of
// bytes, with the two that are not children.
func names(n *inode) []string {
	out := make([]string, 0, len(n.children)+2)
	out = append(out, ".", "..")
	for name := range n.children {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

const direntSize = 12

// blocksOf splits names as they fit into blocks.
func blocksOf(names []string, yield func(block []string, used int)) {
	for len(names) > 0 {
		used, k := 0, 0
		for k < len(names) && used+direntSize+len(names[k]) <= blockSize {
			used += direntSize + len(names[k])
			k++
		}
		yield(names[:k], used)
		names = names[k:]
	}
}

func dirSize(names []string) int64 {
	blocks, last := int64(0), 0
	blocksOf(names, func(_ []string, used int) { blocks, last = blocks+1, used })
	return (blocks-1)<<blockBits + int64(last)
}

// content encodes a directory or a link.
func content(n *inode) []byte {
	if n.isLink() {
		return []byte(n.link)
	}
	out := make([]byte, 0, n.at.length)
	blocksOf(names(n), func(block []string, used int) {
		for len(out)&(blockSize-1) != 0 {
			out = append(out, make([]byte, blockSize-len(out)&(blockSize-1))...)
		}
		off := len(block) * direntSize
		for _, name := range block {
			child := n.children[name]
			switch name {
			case ".":
				child = n
			case "..":
				child = n.parent
			}
			var b [direntSize]byte
			le.PutUint64(b[0:], child.at.nid())
			le.PutUint16(b[8:], uint16(off))
			b[10] = fileType(child.mode)
			out = append(out, b[:]...)
			off += len(name)
		}
		out = append(out, strings.Join(block, "")...)
	})
	return out
}

func fileType(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

// xattrPrefixes are the name prefixes that the format numbers.
var xattrPrefixes = []struct {
	index  byte
	prefix string
}{
	{2, "system.posix_acl_access"}, {3, "system.posix_acl_default"},
	{1, "user."}, {4, "trusted."}, {6, "security."},
}

// encodeXattrs encodes an inode's attributes. Those of other kinds can't be
// set on Linux either and are left out.
func encodeXattrs(n *inode) []byte {
	xs := n.xattrs
	if n.opaque {
		xs = append(xs[:len(xs):len(xs)], tarstream.Xattr{Name: "trusted.overlay.opaque", Value: "y"})
	}
	var out []byte
	for _, x := range xs {
		for _, p := range xattrPrefixes {
			name, ok := strings.CutPrefix(x.Name, p.prefix)
			if !ok {
				continue
			}
			if out == nil {
				out = make([]byte, 12)
			}
			out = append(out, byte(len(name)), p.index, byte(len(x.Value)), byte(len(x.Value)>>8))
			out = append(append(out, name...), x.Value...)
			for len(out)%4 != 0 {
				out = append(out, 0)
			}
			break
		}
	}
	return out
}

// counted is a writer that knows its place.
type counted struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *counted) write(p []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(p)
		c.n += int64(len(p))
	}
}

var zeros [blockSize]byte

func (c *counted) pad(to int64) {
	for c.n < to && c.err == nil {
		c.write(zeros[:min(to-c.n, blockSize)])
	}
}
