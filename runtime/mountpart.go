package runtime

import (
	"fmt"
	"os"

	"github.com/orlop/orlop/core/mount"
	"golang.org/x/sys/unix"
)

// prepareOverlay makes an overlay on the host's side, where its layers are.
func (b *build) prepareOverlay(pm *preparedMount) error {
	fd, err := mountDetached([]mount.Mount{{Type: pm.Type, Source: pm.Source, Options: pm.Mount.Options}})
	if err != nil {
		return err
	}
	pm.fd = b.own(fd)
	if pm.options.subpath == "" {
		return nil
	}
	sub, err := unix.Openat2(fd, clean(pm.options.subpath), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot})
	if err != nil {
		return &os.PathError{Op: "bind", Path: pm.options.subpath, Err: err}
	}
	defer unix.Close(sub)
	var st unix.Stat_t
	if err := unix.Fstat(sub, &st); err != nil {
		return err
	}
	pm.dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	part, err := unix.OpenTree(sub, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil { // before Linux 6.15 there are no parts of what is attached nowhere
		return fmt.Errorf("part %q of a mount: %w", pm.options.subpath, err)
	}
	pm.fd = b.own(part)
	return nil
}

// openSubpath finds a part of a bind's source. Nothing that lives in there can lead it
// out, however fast it swaps what it has.
func openSubpath(source, sub string) (int, error) {
	root, err := unix.Open(source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "bind", Path: source, Err: err}
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, clean(sub), &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot})
	if err != nil {
		return -1, &os.PathError{Op: "bind", Path: sub + " in " + source, Err: err}
	}
	return fd, nil
}

// statAt is stat of a path, or of an open file.
func statAt(at int, path string, st *unix.Stat_t) error {
	if at != unix.AT_FDCWD {
		return unix.Fstat(at, st)
	}
	return unix.Stat(path, st)
}
