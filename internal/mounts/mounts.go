// Package mounts performs lists of mount.Mount and undoes them.
//
// Mounts are made by the kernel's file-descriptor interface (fsopen, fsmount,
// open_tree, move_mount; Linux ≥ 5.12): a mount is complete, flags included,
// before anything can see it, option lists may be longer than a page, and the
// kernel's own words about what is wrong end up in the error. An overlay is
// given its lower layers one by one ("lowerdir+", Linux ≥ 6.5); where the
// kernel doesn't know that, mount(2) is used and its limit of a page applies.
//
// WithTemp attaches nothing where it can: a single mount is used through its
// descriptor and is gone with it, so that a crash leaves no mount behind.
//
// All functions are safe for concurrent use; keeping two callers from one
// target is the callers' business.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
)

// All makes the mounts in order below dir. If one fails, those before it are
// undone.
func All(ms []mount.Mount, dir string) error {
	var done []string
	for _, m := range ms {
		target, err := resolveTarget(dir, m.Target)
		if err == nil {
			err = attach(m, target)
		}
		if err != nil {
			for i := len(done) - 1; i >= 0; i-- {
				err = errors.Join(err, Unmount(done[i], true))
			}
			return err
		}
		done = append(done, target)
	}
	return nil
}

// attach makes one mount and puts it at target.
func attach(m mount.Mount, target string) error {
	return shifting(m, func(m mount.Mount, userns *os.File) error { return attachAs(m, userns, target) })
}

func attachAs(m mount.Mount, userns *os.File, target string) error {
	fd, err := open(m, userns)
	if errors.Is(err, errNeedsOldCall) {
		return oldMount(m, target)
	}
	if err != nil {
		return err
	}
	defer fd.Close()
	if err := unix.MoveMount(int(fd.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s mount at %s: %w", m.Type, target, err)
	}
	o := parse(m)
	if o.propagation != 0 {
		if err := unix.Mount("", target, "", o.propagation, ""); err != nil {
			err = fmt.Errorf("propagation of %s: %w", target, err)
			return errors.Join(err, Unmount(target, true))
		}
	}
	return nil
}

// Open makes a mount that is attached nowhere. It can be used through the
// descriptor (/proc/self/fd/N) and vanishes with it.
func Open(m mount.Mount) (f *os.File, err error) {
	err = shifting(m, func(m mount.Mount, userns *os.File) error {
		f, err = open(m, userns)
		return err
	})
	return f, err
}

// open makes a mount whose layers are shifted already, and a bind shifted.
func open(m mount.Mount, userns *os.File) (*os.File, error) {
	o := parse(m)
	var fd int
	var err error
	if o.bind {
		if fd, err = cloneTree(m.Source, o); err == nil && userns != nil {
			if err = shiftOwners(fd, int(userns.Fd()), m.Source); err != nil {
				unix.Close(fd)
			}
		}
	} else {
		fd, err = newFilesystem(m, o)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "mount of "+m.Source), nil
}

// OpenAny is Open also where the kernel can do the mount by mount(2) alone: then it
// shows for a moment at a folder of ours.
func OpenAny(m mount.Mount) (f *os.File, err error) {
	err = shifting(m, func(m mount.Mount, userns *os.File) error {
		f, err = openAny(m, userns)
		return err
	})
	return f, err
}

func openAny(m mount.Mount, userns *os.File) (*os.File, error) {
	f, err := open(m, userns)
	if !errors.Is(err, errNeedsOldCall) {
		return f, err
	}
	dir, err := os.MkdirTemp("", "orlop-mount-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(dir)
	if err := oldMount(m, dir); err != nil {
		return nil, err
	}
	defer Unmount(dir, true)
	fd, err := cloneTree(dir, options{})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "mount of "+m.Source), nil
}

// Unmount takes the topmost mount at path away. Lazy detaches it at once and
// lets users of it finish. A path where nothing is mounted, or that doesn't
// exist, is no error.
func Unmount(path string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	for {
		err := unix.Unmount(path, flags)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		}
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
}

// UnmountAll takes every mount at path away, the topmost first.
func UnmountAll(path string, lazy bool) error {
	for range 100 { // a stack of a hundred is a loop
		mounted, err := IsMountPoint(path)
		if err != nil || !mounted {
			return err
		}
		if err := Unmount(path, lazy); err != nil {
			return err
		}
	}
	return fmt.Errorf("unmount %s: mounts keep appearing", path)
}

// IsMountPoint tells whether something is mounted at path. A path that doesn't
// exist is none.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// resolveTarget looks the mount's Target up below dir; symbolic links are
// followed as if dir were the root.
func resolveTarget(dir, target string) (string, error) {
	if strings.Trim(target, "/") == "" {
		return dir, nil
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, target, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return "", fmt.Errorf("mount target %q in %s: %w", target, dir, err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	return path, nil
}
