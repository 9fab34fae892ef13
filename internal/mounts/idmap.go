package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
)

// idmapKey begins the option that shifts the owners of files: its value is the file
// of a user namespace, whose maps say how. The option is mount(8)'s.
//
// A bind is shifted itself. An overlay, which the kernel can't shift, has all its
// layers shifted, the upper one too: what a container writes is on the disk with the
// owners that the container sees, as if it had no user namespace.
const idmapKey = "X-mount.idmap="

// IDMap is the option that shifts a mount's owners by the user namespace at a file.
func IDMap(userns string) string { return idmapKey + userns }

// takeIDMap splits the option off, "" if it isn't there.
func takeIDMap(m mount.Mount) (mount.Mount, string) {
	var userns string
	kept := make([]string, 0, len(m.Options))
	for _, o := range m.Options {
		if path, ok := strings.CutPrefix(o, idmapKey); ok {
			userns = path
			continue
		}
		kept = append(kept, o)
	}
	m.Options = kept
	return m, userns
}

// shifting calls fn with a mount whose layers are shifted if that is asked for. They
// need to be there only until the mount is made.
func shifting(m mount.Mount, fn func(mount.Mount, *os.File) error) error {
	m, path := takeIDMap(m)
	if path == "" {
		return fn(m, nil)
	}
	userns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("mount %s: owners: %w", m.Type, err)
	}
	defer userns.Close()
	switch {
	case parse(m).bind:
		return fn(m, userns)
	case m.Type != "overlay":
		return fmt.Errorf("mount %s: the owners of this file system can't be shifted: %w", m.Type, unix.EOPNOTSUPP)
	}
	s := shifter{userns: int(userns.Fd()), attach: !detachedLayers()}
	m, err = s.overlay(m)
	if err == nil {
		err = s.asOwner(func() error { return fn(m, nil) })
	}
	return errors.Join(err, s.release())
}

// asOwner makes an overlay as who its work directory belongs to when it is shifted:
// the overlay makes files there itself, as who made it.
func (s *shifter) asOwner(fn func() error) error {
	if s.work == "" {
		return fn()
	}
	var st unix.Stat_t
	if err := unix.Stat(s.work, &st); err != nil {
		return fmt.Errorf("layer %s: %w", s.work, err)
	}
	return AsOwner(st.Uid, st.Gid, fn)
}

// detachedLayers tells by the version (≥ 6.15) that an overlay takes layers that are
// attached nowhere.
var detachedLayers = sync.OnceValue(func() bool { return !olderThan(6, 15) })

// shifter makes shifted copies of mounts, and undoes them.
type shifter struct {
	userns int
	// attach shows the copies at folders, for kernels that look no further.
	attach bool
	fds    []int
	places []string
	base   string
	work   string // the shifted work directory, if there is one
}

// overlay replaces the layers of an overlay by shifted ones.
func (s *shifter) overlay(m mount.Mount) (mount.Mount, error) {
	opts := make([]string, len(m.Options))
	var writable string // shows the folder above the upper one
	for i, o := range m.Options {
		key, value := cut(o)
		opts[i] = o
		switch key {
		case "lowerdir":
			lower, data := splitLayers(value)
			if len(data) > 0 {
				return m, fmt.Errorf("mount overlay: owners of data-only layers can't be shifted: %w", unix.EOPNOTSUPP)
			}
			for j, dir := range lower {
				at, err := s.copy(dir)
				if err != nil {
					return m, err
				}
				lower[j] = EscapeLayer(at)
			}
			opts[i] = "lowerdir=" + strings.Join(lower, ":")
		case "upperdir", "workdir":
			dir := unescape(value)
			if writable == "" { // both must be on one mount
				var err error
				if writable, err = s.copy(filepath.Dir(dir)); err != nil {
					return m, err
				}
			}
			shown := filepath.Join(writable, filepath.Base(dir))
			if opts[i] = key + "=" + EscapeLayer(shown); key == "workdir" {
				s.work = shown
			}
		}
	}
	m.Options = opts
	return m, nil
}

// copy makes a shifted copy of the mount at a folder, and tells where it is.
func (s *shifter) copy(dir string) (string, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("layer %s: %w", dir, err)
	}
	s.fds = append(s.fds, fd)
	if err := shiftOwners(fd, s.userns, dir); err != nil {
		return "", err
	}
	if !s.attach {
		return fmt.Sprintf("/proc/self/fd/%d", fd), nil
	}
	if s.base == "" {
		if s.base, err = os.MkdirTemp("", "orlop-layers-"); err != nil {
			return "", err
		}
	}
	place := filepath.Join(s.base, fmt.Sprint(len(s.fds)))
	if err := os.Mkdir(place, 0o700); err != nil {
		return "", err
	}
	s.places = append(s.places, place)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", fmt.Errorf("layer %s: %w", dir, err)
	}
	return place, nil
}

// release undoes the copies; an overlay that was made of them has its own.
func (s *shifter) release() error {
	var errs []error
	for _, place := range s.places {
		errs = append(errs, Unmount(place, true), os.Remove(place))
	}
	if s.base != "" {
		errs = append(errs, os.Remove(s.base))
	}
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	return errors.Join(errs...)
}

// shiftOwners makes a mount that is attached nowhere show owners through the maps of
// a user namespace.
func shiftOwners(fd, userns int, what string) error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: its file system can't show files with shifted owners (idmapped mounts): %w", what, err)
	}
	if err != nil {
		return fmt.Errorf("%s: shifted owners: %w", what, err)
	}
	return nil
}
