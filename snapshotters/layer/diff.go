package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotDiffable says that an overlay's upper directory refers to lower layers
// (redirected directories, metadata-only copies), so that it can't be read by
// itself; [Diff] of the mounted trees can.
var ErrNotDiffable = errors.New("upper directory depends on lower layers")

// DiffOptions tune [Diff] and [DiffUpper].
type DiffOptions struct {
	// SourceDateEpoch, where set, is the latest time an entry may have.
	SourceDateEpoch *time.Time
	// Root, where set, is the name that the tree's root is written under, and the
	// beginning of all other names: ".", "/" or "dir". Only [Diff] knows it.
	Root string
	// Leave, where set, is asked about paths that are new; one for which it is true
	// is left out, with all below. Only [Diff] knows it.
	Leave func(path string) bool
	// Enter, where set, is asked before a directory is entered; one that is not is
	// written as if it were empty. Only [Diff] knows it.
	Enter func(dir *os.File) bool
	// MapOwner, where set, changes the owner of each file.
	MapOwner func(uid, gid uint32) (uint32, uint32)
}

// Diff writes the layer that makes the tree lower into the tree upper. Both are
// walked; an empty lower is an empty tree. Files count as unchanged if type,
// owner, mode, attributes, size and time are; where a time has no fraction of a
// second, contents are compared. A new name of an unchanged file is written as
// a file of its own.
func Diff(ctx context.Context, lower, upper string, w io.Writer, opts DiffOptions) error {
	d := newDiffer(ctx, w, opts)
	up, err := openDir(unix.AT_FDCWD, upper)
	if err != nil {
		return err
	}
	defer up.Close()
	var low *os.File
	if lower != "" {
		if low, err = openDir(unix.AT_FDCWD, lower); err != nil {
			return err
		}
		defer low.Close()
	}
	if opts.Root != "" {
		d.pending = append(d.pending, pendingDir{path: opts.Root, dir: up})
		if err := d.flushDirs(); err != nil {
			return err
		}
	}
	if err := d.compareDirs(low, up, opts.Root); err != nil {
		return err
	}
	return d.tar.Close()
}

// Entry writes an archive of one file of dir, which is no directory, under the name
// given. A link is written as a link.
func Entry(ctx context.Context, dir *os.File, file, name string, w io.Writer, opts DiffOptions) error {
	d := newDiffer(ctx, w, opts)
	var st unix.Stat_t
	if err := lstatat(dir, file, &st); err != nil {
		return err
	}
	if err := d.entry(dir, file, name, &st); err != nil {
		return err
	}
	return d.tar.Close()
}

// differ is one run of Diff or DiffUpper.
type differ struct {
	ctx     context.Context
	tar     *tar.Writer
	opts    DiffOptions
	links   map[inode]string // names of files with several, as written
	pending []pendingDir     // unchanged directories on the way to here
	buf     []byte
}

type inode struct{ dev, ino uint64 }

type pendingDir struct {
	path    string
	dir     *os.File
	written bool
}

func newDiffer(ctx context.Context, w io.Writer, opts DiffOptions) *differ {
	return &differ{ctx: ctx, tar: tar.NewWriter(w), opts: opts, links: map[inode]string{}, buf: make([]byte, 256<<10)}
}

// compareDirs writes what differs below a directory. low may be nil.
func (d *differ) compareDirs(low, up *os.File, path string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	upper, err := sortedNames(up)
	if err != nil {
		return err
	}
	var lower []string
	if low != nil {
		if lower, err = sortedNames(low); err != nil {
			return err
		}
	}
	for len(upper) > 0 || len(lower) > 0 {
		switch {
		case len(upper) == 0 || len(lower) > 0 && lower[0] < upper[0]:
			err = d.whiteout(path, lower[0])
			lower = lower[1:]
		case len(lower) == 0 || upper[0] < lower[0]:
			err = d.compare(nil, up, path, upper[0])
			upper = upper[1:]
		default:
			err = d.compare(low, up, path, upper[0])
			lower, upper = lower[1:], upper[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare writes an entry of up, which low may have too.
func (d *differ) compare(low, up *os.File, dir, name string) error {
	path := join(dir, name)
	var st, lst unix.Stat_t
	if err := lstatat(up, name, &st); err != nil {
		return err
	}
	same := false
	if low != nil {
		if err := lstatat(low, name, &lst); err != nil {
			return err
		}
		var err error
		if same, err = d.same(low, up, name, &lst, &st); err != nil {
			return fmt.Errorf("compare %s: %w", path, err)
		}
		if lst.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
			low = nil
		}
	}
	if low == nil && d.opts.Leave != nil && d.opts.Leave(path) {
		return nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if same {
			return nil
		}
		return d.entry(up, name, path, &st)
	}
	return d.compareSubdir(low, up, name, path, same)
}

// compareSubdir writes a directory if it differs, or else once something in it
// does.
func (d *differ) compareSubdir(low, up *os.File, name, path string, same bool) error {
	sub, err := openSubdir(up, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	var lsub *os.File
	if low != nil {
		if lsub, err = openSubdir(low, name); err != nil {
			return err
		}
		defer lsub.Close()
	}
	d.pending = append(d.pending, pendingDir{path: path, dir: sub})
	if !same {
		if err := d.flushDirs(); err != nil {
			return err
		}
	}
	if d.opts.Enter == nil || d.opts.Enter(sub) {
		err = d.compareDirs(lsub, sub, path)
	}
	d.pending = d.pending[:len(d.pending)-1]
	return err
}

// flushDirs writes the directories that lead to an entry about to be written.
func (d *differ) flushDirs() error {
	for i := range d.pending {
		p := &d.pending[i]
		if p.written {
			continue
		}
		p.written = true
		var st unix.Stat_t
		if err := unix.Fstat(int(p.dir.Fd()), &st); err != nil {
			return err
		}
		if err := d.header(p.dir, ".", strings.TrimSuffix(p.path, "/")+"/", &st, ""); err != nil {
			return err
		}
	}
	return nil
}

// same tells whether an entry is unchanged. Directories' times don't count.
func (d *differ) same(low, up *os.File, name string, a, b *unix.Stat_t) (bool, error) {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return false, nil
	}
	xa, err := xattrs(low, name)
	if err != nil {
		return false, err
	}
	xb, err := xattrs(up, name)
	if err != nil {
		return false, err
	}
	if !slices.Equal(xa, xb) {
		return false, nil
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true, nil
	case unix.S_IFLNK:
		ta, err := readlinkat(int(low.Fd()), name)
		if err != nil {
			return false, err
		}
		tb, err := readlinkat(int(up.Fd()), name)
		return ta == tb && a.Mtim.Sec == b.Mtim.Sec, err
	case unix.S_IFREG:
		if a.Size != b.Size || a.Mtim.Sec != b.Mtim.Sec {
			return false, nil
		}
		if a.Mtim.Nsec != 0 && b.Mtim.Nsec != 0 {
			return a.Mtim.Nsec == b.Mtim.Nsec, nil
		}
		return sameContent(low, up, name, a.Size)
	}
	return true, nil
}

func sameContent(low, up *os.File, name string, size int64) (bool, error) {
	if size == 0 {
		return true, nil
	}
	a, err := openFile(low, name)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := openFile(up, name)
	if err != nil {
		return false, err
	}
	defer b.Close()
	var ba, bb [64 << 10]byte
	for {
		na, ea := io.ReadFull(a, ba[:])
		nb, eb := io.ReadFull(b, bb[:])
		if !bytes.Equal(ba[:na], bb[:nb]) {
			return false, nil
		}
		if ea != nil || eb != nil {
			return isEnd(ea) && isEnd(eb), nil
		}
	}
}

func isEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

func join(dir, name string) string {
	if dir == "" || dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openSubdir opens a directory in another. It follows no link: who lives in the tree
// may have put one there since it was looked at.
func openSubdir(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openFile opens a regular file; what took its place since it was looked at is
// neither followed nor waited for.
func openFile(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.Join(err, unix.ESTALE)}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func lstatat(dir *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return nil
}

func sortedNames(dir *os.File) ([]string, error) {
	names, err := readNames(int(dir.Fd()))
	slices.SortFunc(names, strings.Compare)
	return names, err
}
