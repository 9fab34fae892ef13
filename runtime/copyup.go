package runtime

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxCopyUp bounds what tmpcopyup copies: it is memory.
const maxCopyUp = 256 << 20

// prepareCopyUp makes a tmpfs that begins with what the image has at its place.
// It is made and filled on the host's side, by descriptors that cannot leave
// either tree.
func (b *build) prepareCopyUp(pm *preparedMount) error {
	if pm.Type != "tmpfs" {
		return invalid("tmpcopyup is for tmpfs")
	}
	fd, err := fsmount("tmpfs", "tmpfs", pm.options.data, pm.options.set&^unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	pm.fd = b.own(fd)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRoot}
	src, err := unix.Openat2(b.root, clean(pm.Destination), &how)
	if err == nil {
		defer unix.Close(src)
		if err := copyTree(fd, src); err != nil {
			return fmt.Errorf("tmpcopyup: %w", err)
		}
	} else if err != unix.ENOENT {
		return err
	}
	return setAttrs(fd, &pm.options)
}

func rootAt(fd int) (*os.Root, error) { return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd)) }

func copyTree(dst, src int) error {
	to, err := rootAt(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := rootAt(src)
	if err != nil {
		return err
	}
	defer from.Close()
	left := int64(maxCopyUp)
	return fs.WalkDir(from.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return copyEntry(to, from, name, &left)
	})
}

// copyEntry copies one file, directory or link with its owner and mode.
func copyEntry(to, from *os.Root, name string, left *int64) error {
	st, err := from.Lstat(name)
	if err != nil {
		return err
	}
	switch {
	case st.IsDir() && name != ".":
		err = to.Mkdir(name, 0o700)
	case st.Mode()&fs.ModeSymlink != 0:
		var link string
		if link, err = from.Readlink(name); err == nil {
			err = to.Symlink(link, name)
		}
	case st.Mode().IsRegular():
		err = copyFile(to, from, name, left)
	case !st.IsDir():
		return nil // sockets, pipes and devices are not copied
	}
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		if err := to.Lchown(name, int(sys.Uid), int(sys.Gid)); err != nil {
			return err
		}
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	return to.Chmod(name, st.Mode())
}

func copyFile(to, from *os.Root, name string, left *int64) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, *left+1))
	if *left -= n; err == nil && *left < 0 {
		err = fmt.Errorf("more than %d bytes", maxCopyUp)
	}
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
