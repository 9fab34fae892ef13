package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
)

// Place makes those mounts of a configuration that other runtimes can't, or not all of
// them: parts of a source, shifted owners, overlays. They are attached in folder dir,
// and what is returned binds them from there. dir is made if there are any; [Displace]
// undoes it.
func Place(list []specs.Mount, dir string) ([]specs.Mount, error) {
	out := slices.Clone(list)
	for i, m := range list {
		o := parseOptions(m.Options)
		bind := o.bind || m.Type == "bind"
		if o.subpath == "" && len(m.UIDMappings) == 0 && m.Type != "overlay" || !bind && m.Type != "overlay" {
			continue
		}
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := place(m, &o, at); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", mountName(m), err), Displace(dir))
		}
		out[i] = specs.Mount{Destination: m.Destination, Type: "bind", Source: at, Options: bindOptions(m.Options, bind)}
	}
	return out, nil
}

// bindOptions are those that still count.
func bindOptions(options []string, bind bool) []string {
	if !bind {
		if slices.Contains(options, "ro") {
			return []string{"bind", "ro"}
		}
		return []string{"bind"}
	}
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return strings.HasPrefix(o, subpathOption) })
}

// place makes one mount and attaches it.
func place(m specs.Mount, o *mountOptions, at string) error {
	b := &build{plan: &plan{}, spec: &specs.Spec{}}
	defer b.close()
	pm := &preparedMount{Mount: m, options: *o, fd: -1, userns: -1}
	fd := -1
	if m.Type == "overlay" {
		if err := b.prepareOverlay(pm); err != nil {
			return err
		}
		fd = pm.fd
	} else {
		var err error
		if fd, err = b.cloneSource(pm); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if err := makePlace(at, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return err
	}
	unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach at %s: %w", at, err)
	}
	return nil
}

// cloneSource clones a bind's source, or a part of it, with shifted owners if asked for.
func (b *build) cloneSource(pm *preparedMount) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if pm.options.recursive {
		flags |= unix.AT_RECURSIVE
	}
	from, source := unix.AT_FDCWD, pm.Source
	if pm.options.subpath != "" {
		part, err := openSubpath(pm.Source, pm.options.subpath)
		if err != nil {
			return -1, err
		}
		from, source, flags = b.own(part), "", flags|unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(from, source, flags)
	if err != nil {
		return -1, &os.PathError{Op: "bind", Path: pm.Source, Err: err}
	}
	b.own(fd)
	if len(pm.UIDMappings) == 0 {
		return fd, nil
	}
	if err := b.idmapOf(pm); err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(pm.userns)}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, fmt.Errorf("owners: %w", err)
	}
	return fd, nil
}

// makePlace makes what a mount is attached at.
func makePlace(at string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o711); err != nil {
		return err
	}
	if dir {
		return os.Mkdir(at, 0o711)
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Displace undoes [Place]. A folder that isn't there is no error.
func Displace(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range entries {
		at := filepath.Join(dir, e.Name())
		errs = append(errs, mounts.UnmountAll(at, true), os.Remove(at))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// MountShifted is mounts.All for lists whose owners may be shifted.
func MountShifted(list []mount.Mount, dir string) error {
	list, users, err := Shift(list)
	if err != nil {
		return err
	}
	err = mounts.All(list, dir)
	runtime.KeepAlive(users)
	return err
}
