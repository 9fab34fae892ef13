package layer

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// Apply writes the uncompressed tar r onto the directory root and reads r to
// its end. On error the tree is left half written.
func Apply(ctx context.Context, root string, r io.Reader, opts Options) (Stats, error) {
	if opts.MaxEntries == 0 {
		opts.MaxEntries = DefaultMaxEntries
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = math.MaxInt64
	}
	t, err := openTree(root, &opts)
	if err != nil {
		return Stats{}, err
	}
	defer t.close()
	a := &applier{tree: t, tar: tarstream.NewReader(r), umask: processUmask()}
	defer a.tar.Close()
	if err := a.all(ctx); err != nil {
		return a.stats, err
	}
	return a.stats, a.tar.Drain()
}

// applier is one run of Apply.
type applier struct {
	*tree
	tar   *tarstream.Reader
	stats Stats
	umask uint32
	acls  bool      // a default ACL was set: modes at creation are not ours
	times []dirTime // set at the end, for every new file changes them
}

type dirTime struct {
	path string
	at   time.Time
}

func (a *applier) all(ctx context.Context) error {
	for {
		e, err := a.tar.Next()
		if err == io.EOF {
			return a.setDirTimes()
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := a.one(e); err != nil {
			return fmt.Errorf("layer entry %.200q: %w", e.Name, err)
		}
	}
}

func (a *applier) one(e *tarstream.Entry) error {
	if a.stats.Entries++; a.stats.Entries > a.opts.MaxEntries {
		return fmt.Errorf("more than %d entries: %w", a.opts.MaxEntries, ErrLimit)
	}
	if err := checkXattrs(e.Xattrs); err != nil {
		return err
	}
	if a.opts.MapOwner != nil {
		var err error
		if e.UID, e.GID, err = a.opts.MapOwner(e.UID, e.GID); err != nil {
			return err
		}
	}
	a.trim()
	path, err := clean(e.Name)
	if err != nil {
		return err
	}
	if path == "" && a.opts.KeepRoot {
		return nil
	}
	if path = a.under(path); path == "" {
		return a.rootEntry(e)
	}
	parent, base := split(path)
	dir, err := a.dir(parent, true)
	if err != nil {
		return err
	}
	if a.opts.Whiteouts != Plain && strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(dir, base)
	}
	if a.opts.KeepKinds {
		if err := a.keepsKind(dir, base, path, e); err != nil {
			return err
		}
	}
	return a.create(dir, base, path, e)
}

// under is where a clean path of the archive is in the tree.
func (t *tree) under(path string) string {
	if t.opts.Under == "" || path == "" {
		return t.opts.Under + path
	}
	return t.opts.Under + "/" + path
}

// keepsKind tells whether an entry is a directory as what is in its place.
func (a *applier) keepsKind(dir *node, base, path string, e *tarstream.Entry) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if isDir != (e.Type == tarstream.TypeDir) {
		return &KindError{Path: path, IsDir: isDir}
	}
	return nil
}

// create dispatches on the type.
func (a *applier) create(dir *node, base, path string, e *tarstream.Entry) error {
	switch e.Type {
	case tarstream.TypeReg:
		return a.file(dir, base, e)
	case tarstream.TypeDir:
		return a.directory(dir, base, path, e)
	case tarstream.TypeSymlink:
		return a.symlink(dir, base, e)
	case tarstream.TypeLink:
		return a.hardlink(dir, base, e)
	case tarstream.TypeChar, tarstream.TypeBlock, tarstream.TypeFifo:
		return a.special(dir, base, e)
	}
	return fmt.Errorf("entries of type %q are unknown: %w", e.Type, tarstream.ErrFormat)
}

// rootEntry sets owner, mode and attributes of the tree's root.
func (a *applier) rootEntry(e *tarstream.Entry) error {
	if e.Type != tarstream.TypeDir {
		return fmt.Errorf("the root can't be of type %q: %w", e.Type, ErrBreakout)
	}
	return a.dress(a.root, "", e)
}

// place runs make, which must fail with EEXIST where base is taken, and clears
// the way once.
func (a *applier) place(dir *node, base string, make func() error) error {
	err := make()
	if err == unix.EEXIST {
		if err := a.remove(dir, base); err != nil {
			return err
		}
		err = make()
	}
	if err == nil {
		a.remember(dir, base)
	}
	return err
}

func (a *applier) file(dir *node, base string, e *tarstream.Entry) error {
	fd := -1
	err := a.place(dir, base, func() (err error) {
		fd, err = unix.Openat(dir.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, e.Mode&0o777)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := a.data(fd, e); err != nil {
		return err
	}
	if e.UID != 0 || e.GID != 0 || dir.setgid || !rootProcess {
		if err := unix.Fchown(fd, int(e.UID), int(e.GID)); err != nil {
			return fmt.Errorf("owner %d:%d: %w", e.UID, e.GID, err)
		}
	}
	if a.acls || e.Mode&(a.umask|^uint32(0o777)) != 0 {
		if err := unix.Fchmod(fd, e.Mode); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	for _, x := range e.Xattrs {
		if err := a.xattr(x, func(name string, value []byte) error {
			return unix.Fsetxattr(fd, name, value, 0)
		}); err != nil {
			return err
		}
	}
	a.stats.Inodes++
	return setTimes(fd, e.ModTime)
}

// data writes the file's extents and leaves its holes.
func (a *applier) data(fd int, e *tarstream.Entry) error {
	var stored int64
	for _, x := range e.Data {
		stored += x.Len
	}
	if a.stats.Bytes+stored > a.opts.MaxBytes {
		return fmt.Errorf("more than %d bytes: %w", a.opts.MaxBytes, ErrLimit)
	}
	a.stats.Bytes += stored
	a.stats.Size += (stored + 4095) &^ 4095
	if e.Sparse {
		if err := unix.Ftruncate(fd, e.Size); err != nil {
			return fmt.Errorf("size %d: %w", e.Size, err)
		}
	}
	return a.tar.Each(func(off int64, p []byte) error { return writeAll(fd, p, off) })
}

func writeAll(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (a *applier) directory(dir *node, base, path string, e *tarstream.Entry) error {
	err := unix.Mkdirat(dir.fd, base, 0o755)
	if err == unix.EEXIST {
		err = a.overDirectory(dir, base)
	} else {
		a.stats.Inodes++
		a.stats.Size += 4096
	}
	if err != nil {
		return err
	}
	a.remember(dir, base)
	n, link, err := a.step(dir, base, false)
	if err != nil {
		return err
	}
	if link != "" {
		return fmt.Errorf("became a symbolic link: %w", ErrBreakout)
	}
	a.dirs[path] = n
	return a.dress(n, n.path, e)
}

// dress gives an open directory its owner, mode and attributes, and notes its
// time.
func (a *applier) dress(n *node, path string, e *tarstream.Entry) error {
	if err := unix.Fchown(n.fd, int(e.UID), int(e.GID)); err != nil {
		return fmt.Errorf("owner %d:%d: %w", e.UID, e.GID, err)
	}
	if err := unix.Fchmod(n.fd, e.Mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	n.setgid = e.Mode&0o2000 != 0
	for _, x := range e.Xattrs {
		if err := a.xattr(x, func(name string, value []byte) error {
			return unix.Fsetxattr(n.fd, name, value, 0)
		}); err != nil {
			return err
		}
		a.acls = a.acls || x.Name == "system.posix_acl_default"
	}
	a.times = append(a.times, dirTime{path, e.ModTime})
	return nil
}

// setDirTimes sets directories' times, which every file made in them changed.
func (a *applier) setDirTimes() error {
	for _, d := range a.times {
		n, err := a.dir(d.path, false)
		if err != nil || n.path != d.path {
			continue // replaced by a later entry
		}
		if err := setTimes(n.fd, d.at); err != nil {
			return err
		}
	}
	return nil
}
