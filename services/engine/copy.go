package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	api "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/services/archive/packed"
	"github.com/orlop/orlop/services/spec"
	"github.com/orlop/orlop/snapshotters/layer"
	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// maxCopyPath bounds a path of a container, in bytes: the kernel's PATH_MAX.
const maxCopyPath = 4096

// resource is a file or folder of a container.
type resource struct {
	path   string // absolute; a "/" or "/." at the end asks for a folder, through links
	parent *os.File
	name   string // in parent; "" for what path's end resolved to: then parent is it
	info   fs.FileInfo
}

// find looks a path up without following a link at its end, as lstat does.
func (v *rootView) find(text string) (*resource, error) {
	r := &resource{path: rooted(text)}
	asked := r.path
	if strings.HasSuffix(asked, "/") || strings.HasSuffix(asked, "/.") {
		f, err := v.open(asked, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		r.parent = f
	} else {
		dir, err := v.open(path.Dir(asked), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		r.parent, r.name = dir, path.Base(asked)
	}
	if err := r.stat(); err != nil {
		r.parent.Close()
		return nil, err
	}
	return r, nil
}

// rooted makes a path absolute and clean, but keeps what its end says.
func rooted(text string) string {
	clean := path.Clean("/" + text)
	switch {
	case clean == "/" && strings.Trim(text, "/") == "":
		return clean
	case clean == "/":
		return "/."
	case strings.HasSuffix(text, "/."):
		return clean + "/."
	case strings.HasSuffix(text, "/"):
		return clean + "/"
	}
	return clean
}

func (r *resource) stat() error {
	at, err := openAt(r.parent, r.name)
	if err != nil {
		return err
	}
	defer at.Close()
	r.info, err = at.Stat()
	return err
}

// openAt opens a name of a folder, or the folder itself, without following or reading.
func openAt(dir *os.File, name string) (*os.File, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// describe is what clients are told of a resource.
func (v *rootView) describe(r *resource) api.PathStat {
	out := api.PathStat{Name: path.Base(r.path), Size: r.info.Size(), Mode: r.info.Mode(), Mtime: r.info.ModTime()}
	if strings.HasSuffix(r.path, "/.") {
		out.Name = "."
	}
	if r.info.Mode()&fs.ModeSymlink != 0 {
		out.LinkTarget = v.follow(r)
	}
	return out
}

// follow tells where a link leads in the container.
func (v *rootView) follow(r *resource) string {
	if f, err := v.open(r.path, unix.O_PATH); err == nil {
		defer f.Close()
		at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		base, berr := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", v.root.Fd()))
		if err == nil && berr == nil {
			return path.Join("/", strings.TrimPrefix(at, strings.TrimSuffix(base, "/")))
		}
	}
	buf := make([]byte, maxCopyPath)
	n, err := unix.Readlinkat(int(r.parent.Fd()), r.name, buf)
	if err != nil {
		return ""
	}
	text := string(buf[:n])
	if !path.IsAbs(text) {
		text = path.Join(path.Dir(r.path), text)
	}
	return path.Clean(text)
}

// copyError gives an error of a path the class and text that clients know.
func copyError(c *Container, text string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return notFound("Could not find the file %s in container %s", text, c.ID)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return invalid("%s in container %s: %v", text, c.ID, errors.Unwrap(err))
	}
	return err
}

func (e *Engine) copyPath(ref, text string) (*Container, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	if text == "" || len(text) > maxCopyPath || strings.ContainsRune(text, 0) {
		return nil, invalid("bad parameter: 'path' cannot be empty, longer than %d bytes or hold a zero byte", maxCopyPath)
	}
	return c, nil
}

// StatPath describes a file of a container.
func (e *Engine) StatPath(ctx context.Context, ref, text string) (out api.PathStat, err error) {
	c, err := e.copyPath(ref, text)
	if err != nil {
		return out, err
	}
	err = e.withRoot(e.in(ctx), c, func(v *rootView) error {
		r, err := v.find(text)
		if err != nil {
			return err
		}
		defer r.parent.Close()
		out = v.describe(r)
		return nil
	})
	return out, copyError(c, text, err)
}

// ReadArchive writes a file of a container, or a folder with all in it, as an archive
// to what begin returns.
func (e *Engine) ReadArchive(ctx context.Context, ref, text string, begin func(api.PathStat) io.Writer) error {
	c, err := e.copyPath(ref, text)
	if err != nil {
		return err
	}
	err = e.withRoot(e.in(ctx), c, func(v *rootView) error {
		r, err := v.find(text)
		if err != nil {
			return err
		}
		defer r.parent.Close()
		if !r.info.IsDir() {
			return layer.Entry(ctx, r.parent, r.name, r.name, begin(v.describe(r)), layer.DiffOptions{MapOwner: v.inside()})
		}
		name := path.Base(r.path)
		if strings.HasSuffix(r.path, "/.") {
			name = "."
		}
		dir, err := openDirAt(r.parent, r.name)
		if err != nil {
			return err
		}
		defer dir.Close()
		return layer.Diff(ctx, "", fdPath(dir), begin(v.describe(r)), layer.DiffOptions{Root: name, Enter: v.enters(), MapOwner: v.inside()})
	})
	if err = copyError(c, text, err); err == nil {
		e.tell(c, "archive-path", "path", text)
	}
	return err
}

// fdPath is a path that leads to an open file, whatever its name has become.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func openDirAt(dir *os.File, name string) (*os.File, error) {
	if name == "" {
		name = "."
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// kernelTrees are file systems that show the kernel, by their magic numbers
// (linux/magic.h): they are no files to be copied.
var kernelTrees = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
	unix.DEVPTS_SUPER_MAGIC: true, 0x19800202: true /* mqueue */, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true,
	unix.SECURITYFS_MAGIC: true, unix.BPF_FS_MAGIC: true,
}

// enters tells which folders of a tree are read: those of the kernel, and the devices
// that the runtime has made, are left empty.
func (v *rootView) enters() func(*os.File) bool {
	var dev unix.Stat_t
	if f, err := v.open("/dev", unix.O_PATH|unix.O_DIRECTORY); err == nil {
		defer f.Close()
		var st unix.Statfs_t
		if unix.Fstatfs(int(f.Fd()), &st) != nil || int64(st.Type) != unix.TMPFS_MAGIC || unix.Fstat(int(f.Fd()), &dev) != nil {
			dev = unix.Stat_t{}
		}
	}
	return func(dir *os.File) bool {
		var fsys unix.Statfs_t
		var st unix.Stat_t
		if unix.Fstatfs(int(dir.Fd()), &fsys) != nil || unix.Fstat(int(dir.Fd()), &st) != nil {
			return false
		}
		return !kernelTrees[int64(fsys.Type)] && (st.Dev != dev.Dev || st.Ino != dev.Ino)
	}
}

// WriteOptions say how an archive is put into a container.
type WriteOptions struct {
	// Path is the folder that it goes into; it must be there.
	Path string
	// KeepKinds refuses to replace a folder by something else and the other way round.
	KeepKinds bool
	// ChangeOwner gives all files the container's user.
	ChangeOwner bool
}

// WriteArchive puts the files of an archive, which may be compressed, into a folder of
// a container.
func (e *Engine) WriteArchive(ctx context.Context, ref string, o WriteOptions, body io.Reader) error {
	c, err := e.copyPath(ref, o.Path)
	if err != nil {
		return err
	}
	ctx = e.in(ctx)
	err = e.withRoot(ctx, c, func(v *rootView) error { return v.extract(ctx, c, o, body) })
	if err = copyError(c, o.Path, err); err == nil {
		e.tell(c, "extract-to-dir", "path", o.Path)
	}
	return err
}

func (v *rootView) extract(ctx context.Context, c *Container, o WriteOptions, body io.Reader) error {
	dir, err := v.open(rooted(o.Path), unix.O_PATH)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := v.writable(dir); err != nil {
		return err
	}
	base, err := openDirAt(dir, "")
	if err != nil {
		return err
	}
	defer base.Close()
	opts := layer.Options{Whiteouts: layer.Plain, KeepRoot: true, KeepKinds: o.KeepKinds, Under: v.pathOf(dir), Base: base, MapOwner: v.outside()}
	if o.ChangeOwner {
		if opts.MapOwner, err = v.ownerOf(c); err != nil {
			return err
		}
	}
	r, err := packed.Open(body)
	if err != nil {
		return invalid("the archive can't be read: %v", err)
	}
	defer r.Close()
	_, err = layer.Apply(ctx, fdPath(v.root), r, opts)
	return extractError(err)
}

// extractError gives mistakes of an archive the class of a caller's.
func extractError(err error) error {
	var kind *layer.KindError
	switch {
	case errors.As(err, &kind):
		return invalid("%v", kind)
	case errors.Is(err, layer.ErrBreakout), errors.Is(err, layer.ErrLimit), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tarstream.ErrFormat):
		return invalid("%v", err)
	case errors.Is(err, syscall.EROFS):
		return denied("mounted volume is marked read-only")
	}
	return err
}

// writable refuses what is no folder, or is in a part that is read-only.
func (v *rootView) writable(dir *os.File) error {
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return invalid("extraction point is not a directory")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink == 0 {
		return fs.ErrNotExist // it has just been removed
	}
	var there, root unix.Statfs_t
	if err := errors.Join(unix.Fstatfs(int(dir.Fd()), &there), unix.Fstatfs(int(v.root.Fd()), &root)); err != nil {
		return err
	}
	switch {
	case there.Flags&unix.ST_RDONLY == 0:
		return nil
	case root.Flags&unix.ST_RDONLY != 0 && there.Fsid == root.Fsid:
		return denied("container rootfs is marked read-only")
	}
	return denied("mounted volume is marked read-only")
}

// pathOf is where an open folder is below the root, without links on the way.
func (v *rootView) pathOf(dir *os.File) string {
	at, err := os.Readlink(fdPath(dir))
	base, berr := os.Readlink(fdPath(v.root))
	if err != nil || berr != nil {
		return ""
	}
	return strings.Trim(strings.TrimPrefix(at, strings.TrimSuffix(base, "/")), "/")
}

// ownerOf makes all files the container's user's.
func (v *rootView) ownerOf(c *Container) (func(uid, gid uint32) (uint32, uint32, error), error) {
	config, _ := c.config()
	if config.User == "" {
		return v.outside(), nil
	}
	u, err := spec.User(config.User, nil, accounts{v})
	if err != nil {
		return nil, invalid("%v", err)
	}
	uid, gid := u.UID, u.GID
	if v.users != nil {
		uid, gid, err = v.users.Host(uid, gid)
	}
	return func(uint32, uint32) (uint32, uint32, error) { return uid, gid, nil }, err
}

// accounts are the files in which users are looked up. What is no file is not waited for.
type accounts struct{ *rootView }

// Open implements [fs.FS].
func (a accounts) Open(name string) (fs.File, error) {
	return a.open("/"+name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
}
