package layer

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// whiteout obeys one of the layer's deletion marks.
func (a *applier) whiteout(dir *node, base string) error {
	if base == opaqueMarker {
		if a.opts.Whiteouts == Overlay {
			return a.markOpaque(fdPath(dir.fd, "."))
		}
		return a.empty(dir)
	}
	if strings.HasPrefix(base, metaPrefix) {
		return nil
	}
	name := base[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("whiteout of %q: %w", name, ErrBreakout)
	}
	if a.opts.Whiteouts == Overlay {
		return a.overlayWhiteout(dir, name)
	}
	if a.isMade(dir, name) {
		return nil // deletions are about lower layers only
	}
	return a.remove(dir, name)
}

// overlayWhiteout hides the lower layers' file name. Where this layer has one
// itself, that hides it already; a directory must not merge, though.
func (a *applier) overlayWhiteout(dir *node, name string) error {
	err := unix.Mknodat(dir.fd, name, unix.S_IFCHR, 0)
	if err == nil {
		a.stats.Inodes++
		return nil
	}
	if !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("whiteout: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return a.markOpaque(fdPath(dir.fd, name))
	}
	return nil
}

// markOpaque makes overlayfs hide the lower layers' files of a directory.
func (t *tree) markOpaque(path string) error {
	name := "trusted.overlay.opaque"
	if t.opts.UserXattr {
		name = "user.overlay.opaque"
	}
	if err := unix.Lsetxattr(path, name, []byte("y"), 0); err != nil {
		return fmt.Errorf("mark opaque: %w", err)
	}
	return nil
}

// empty deletes what the lower layers have in dir and keeps what this one put
// there, at any depth.
func (a *applier) empty(dir *node) error {
	names, err := readNames(dir.fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.emptyEntry(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// emptyEntry deletes one entry unless it is, or holds, what this layer made.
func (a *applier) emptyEntry(dir *node, name string) error {
	made := a.isMade(dir, name)
	fd, err := unix.Openat(dir.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil { // no directory
		if made {
			return nil
		}
		return a.remove(dir, name)
	}
	err = a.empty(&node{fd: fd, path: strings.TrimPrefix(dir.path+"/"+name, "/")})
	unix.Close(fd)
	if err != nil || made {
		return err
	}
	a.stale()
	err = unix.Unlinkat(dir.fd, name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) {
		return nil // it leads to something of this layer
	}
	return err
}

// overDirectory puts a directory where something is: another directory stays,
// all else goes; what a whiteout of this layer hid stays hidden.
func (t *tree) overDirectory(dir *node, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := t.remove(dir, base); err != nil {
		return err
	}
	if err := unix.Mkdirat(dir.fd, base, 0o755); err != nil {
		return err
	}
	if t.opts.Whiteouts == Overlay && isWhiteout(&st) {
		return t.markOpaque(fdPath(dir.fd, base))
	}
	return nil
}

// readNames lists a directory through a descriptor of its own, so that the
// given one's position doesn't matter.
func readNames(fd int) ([]string, error) {
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "directory")
	defer f.Close()
	return f.Readdirnames(-1)
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
