package erofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// errNotRepresentable says that a layer is valid but can't be an image over its
// tar: sparse files, attributes too large. It becomes a directory instead.
var errNotRepresentable = errors.New("not representable as EROFS over the tar")

// maxLinks is how many symbolic links one lookup follows, as in the kernel.
const maxLinks = 40

const whiteoutPrefix, opaqueMarker, metaPrefix = ".wh.", ".wh..wh..opq", ".wh..wh."

// inode is one file of the image being made.
type inode struct {
	mode     uint32 // with the type
	uid, gid uint32
	rdev     uint32
	nlink    uint32
	size     int64
	mtime    time.Time
	block    uint32 // of the tar, where the data begins
	link     string
	xattrs   []tarstream.Xattr
	children map[string]*inode // of directories
	parent   *inode            // of directories
	opaque   bool

	at place // where it lies in the image; see layout
}

func (n *inode) isDir() bool      { return n.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *inode) isLink() bool     { return n.mode&unix.S_IFMT == unix.S_IFLNK }
func (n *inode) isFile() bool     { return n.mode&unix.S_IFMT == unix.S_IFREG }
func (n *inode) isWhiteout() bool { return n.mode&unix.S_IFMT == unix.S_IFCHR && n.rdev == 0 }

// tree is a layer in memory: its files without their data.
type tree struct {
	root    *inode
	entries int64
	bytes   int64
	limits  limits

	lastPath string // the directory of the entry before
	last     *inode
}

type limits struct{ entries, bytes int64 }

func newDir(parent *inode) *inode {
	return &inode{mode: unix.S_IFDIR | 0o755, nlink: 2, children: map[string]*inode{}, parent: parent}
}

// readTree reads a tar to its end and returns what it describes. The rules are
// those of [layer.Apply] with overlay whiteouts.
func readTree(ctx context.Context, r io.Reader, l limits) (*tree, error) {
	t := &tree{root: newDir(nil), limits: l}
	t.root.parent = t.root
	in := tarstream.NewReader(r)
	defer in.Close()
	for {
		e, err := in.Next()
		if err == io.EOF {
			return t, in.Drain()
		}
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.add(e); err != nil {
			return nil, fmt.Errorf("layer entry %.200q: %w", e.Name, err)
		}
	}
}

func (t *tree) add(e *tarstream.Entry) error {
	t.entries++
	for _, x := range e.Data {
		t.bytes += x.Len
	}
	if t.entries > t.limits.entries || t.limits.bytes > 0 && t.bytes > t.limits.bytes {
		return fmt.Errorf("%d entries, %d bytes: %w", t.entries, t.bytes, layer.ErrLimit)
	}
	path, err := layer.CleanName(e.Name)
	if err != nil {
		return err
	}
	if path == "" {
		if e.Type != tarstream.TypeDir {
			return fmt.Errorf("the root can't be of type %q: %w", e.Type, layer.ErrBreakout)
		}
		return t.root.dress(e)
	}
	parent, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, base = path[:i], path[i+1:]
	}
	if len(base) > 255 {
		return fmt.Errorf("name of %d bytes: %w", len(base), layer.ErrLimit)
	}
	dir, err := t.dir(parent, true)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return dir.whiteout(base)
	}
	return t.put(dir, base, e)
}

// dir finds a directory, following symbolic links inside the tree; missing ones
// are made if make is set.
func (t *tree) dir(path string, make bool) (*inode, error) {
	if t.last != nil && path == t.lastPath {
		return t.last, nil
	}
	at, links, whole := t.root, 0, path
	for path != "" {
		name, rest, _ := strings.Cut(path, "/")
		next := at.children[name]
		switch {
		case name == "" || name == ".":
			next = at
		case name == "..":
			next = at.parent
		case next != nil && next.isLink():
			if links++; links > maxLinks {
				return nil, fmt.Errorf("%q: %w", whole, unix.ELOOP)
			}
			if rest = next.link + "/" + rest; rest[0] == '/' {
				at = t.root
			}
			next = at
		case next == nil || !next.isDir():
			if !make {
				return nil, fmt.Errorf("%q: %w", whole, unix.ENOENT)
			}
			hidden := next != nil && next.isWhiteout()
			next = newDir(at)
			next.opaque = hidden
			at.set(name, next)
		}
		at, path = next, rest
	}
	t.lastPath, t.last = whole, at
	return at, nil
}

// set puts a file into a directory, in the place of what was there.
func (n *inode) set(name string, child *inode) {
	if old := n.children[name]; old != nil {
		old.unlink()
	}
	n.children[name] = child
}

// unlink takes one name away from a file, or from all files below a directory,
// which is at most as deep as names are long.
func (n *inode) unlink() {
	if !n.isDir() {
		n.nlink--
	}
	for _, child := range n.children {
		child.unlink()
	}
}

// whiteout obeys a deletion mark.
func (n *inode) whiteout(base string) error {
	if base == opaqueMarker {
		n.opaque = true
		return nil
	}
	if strings.HasPrefix(base, metaPrefix) {
		return nil
	}
	name := base[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("whiteout of %q: %w", name, layer.ErrBreakout)
	}
	switch old := n.children[name]; {
	case old == nil:
		n.set(name, &inode{mode: unix.S_IFCHR, nlink: 1})
	case old.isDir():
		old.opaque = true
	}
	return nil
}

// put adds what an entry describes.
func (t *tree) put(dir *inode, base string, e *tarstream.Entry) error {
	old := dir.children[base]
	if old != nil && !(old.isDir() && e.Type == tarstream.TypeDir) {
		t.last, t.lastPath = nil, "" // names may lead elsewhere now
	}
	n := &inode{nlink: 1}
	switch e.Type {
	case tarstream.TypeReg:
		n.mode = unix.S_IFREG
		if err := n.data(e); err != nil {
			return err
		}
	case tarstream.TypeDir:
		if old != nil && old.isDir() {
			return old.dress(e)
		}
		n = newDir(dir)
		n.opaque = old != nil && old.isWhiteout()
	case tarstream.TypeSymlink:
		if e.Linkname == "" || len(e.Linkname) >= 4096 {
			return fmt.Errorf("link of %d bytes: %w", len(e.Linkname), layer.ErrLimit)
		}
		n.mode, n.link, n.size = unix.S_IFLNK, e.Linkname, int64(len(e.Linkname))
		e.Mode = 0o777
	case tarstream.TypeLink:
		return t.hardlink(dir, base, e.Linkname)
	case tarstream.TypeChar:
		n.mode, n.rdev = unix.S_IFCHR, deviceNumber(e.Major, e.Minor)
	case tarstream.TypeBlock:
		n.mode, n.rdev = unix.S_IFBLK, deviceNumber(e.Major, e.Minor)
	case tarstream.TypeFifo:
		n.mode = unix.S_IFIFO
	default:
		return fmt.Errorf("entries of type %q are unknown: %w", e.Type, tarstream.ErrFormat)
	}
	dir.set(base, n)
	return n.dress(e)
}

// deviceNumber is the kernel's 32-bit encoding on disk.
func deviceNumber(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// data notes where in the tar a file's bytes are.
func (n *inode) data(e *tarstream.Entry) error {
	n.size = e.Size
	if e.Size == 0 {
		return nil
	}
	if e.Sparse || len(e.Data) != 1 || e.Data[0].Stream>>blockBits >= 1<<32-1 || e.Size > maxFile {
		return errNotRepresentable
	}
	n.block = uint32(e.Data[0].Stream >> blockBits)
	return nil
}

func (t *tree) hardlink(dir *inode, base, to string) error {
	target, err := layer.CleanName(to)
	if err != nil {
		return err
	}
	parent, name := "", target
	if i := strings.LastIndexByte(target, '/'); i >= 0 {
		parent, name = target[:i], target[i+1:]
	}
	from, err := t.dir(parent, false)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", to, err)
	}
	n := from.children[name]
	switch {
	case n == nil:
		return fmt.Errorf("hard link to %.200q: %w", to, unix.ENOENT)
	case n.isDir():
		return fmt.Errorf("hard link to the directory %.200q: %w", to, unix.EPERM)
	case n == dir.children[base]:
		return nil
	}
	n.nlink++
	dir.set(base, n)
	t.last, t.lastPath = nil, "" // the target may have lain in what is replaced
	return nil
}

// dress sets owner, mode, time and attributes.
func (n *inode) dress(e *tarstream.Entry) error {
	n.mode = n.mode&unix.S_IFMT | e.Mode
	n.uid, n.gid, n.mtime = e.UID, e.GID, e.ModTime
	n.xattrs = nil
	for _, x := range e.Xattrs {
		if len(x.Value) > 64<<10 || len(x.Name) > 255 {
			return fmt.Errorf("attribute %.100q of %d bytes: %w", x.Name, len(x.Value), layer.ErrLimit)
		}
		if strings.HasPrefix(x.Name, "trusted.overlay.") || strings.HasPrefix(x.Name, "user.overlay.") {
			continue
		}
		same := func(y tarstream.Xattr) bool { return y.Name == x.Name }
		n.xattrs = append(slices.DeleteFunc(n.xattrs, same), x) // the last of a name counts
	}
	return nil
}
