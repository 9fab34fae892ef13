package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// findBinds makes what is missing of the places of mounts, and notes where those of
// binds really are: their names may go by symbolic links of the image.
func (rs *restoration) findBinds(root string, list []specs.Mount) error {
	rs.binds = map[string]specs.Mount{}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, m := range list {
		at := path.Clean(m.Destination)
		if !covered(list, at) {
			if err := rs.ensurePlace(dir, m); err != nil {
				return fmt.Errorf("place of %s: %w", mountName(m), err)
			}
			if at, err = resolveIn(dir, at); err != nil {
				return fmt.Errorf("place of %s: %w", mountName(m), err)
			}
		}
		if isBind(m) {
			rs.binds[at] = m
		}
	}
	return nil
}

// covered reports whether a place is inside another mount of the list, which shows it
// when it is there.
func covered(list []specs.Mount, at string) bool {
	for _, m := range list {
		if inside(at, path.Clean(m.Destination)) {
			return true
		}
	}
	return false
}

// inside reports whether a clean path is below another one.
func inside(name, dir string) bool { return strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/") }

// ensurePlace makes the folder or file that a mount covers.
func (rs *restoration) ensurePlace(root *os.Root, m specs.Mount) error {
	name := "." + path.Clean("/"+m.Destination)
	if _, err := root.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return nil // what can't be followed here may be by the kernel
	}
	if isBind(m) {
		st, err := os.Stat(rs.source(m))
		if err != nil {
			return err
		}
		if !st.IsDir() {
			if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
				return err
			}
			f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
	}
	return root.MkdirAll(name, 0o755)
}

// resolveIn follows the symbolic links of a path as a process of the container would.
func resolveIn(root *os.Root, name string) (string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return "", err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot})
	if err != nil {
		return "", &os.PathError{Op: "resolve", Path: name, Err: err}
	}
	defer unix.Close(fd)
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	top, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return "", err
	}
	return path.Clean("/" + strings.TrimPrefix(real, top)), nil
}

func (rs *restoration) source(m specs.Mount) string {
	if filepath.IsAbs(m.Source) {
		return m.Source
	}
	return filepath.Join(rs.b.bundle, m.Source)
}

// addMounts tells CRIU what to show where the checkpoint has a mount from outside.
func (rs *restoration) addMounts() error {
	for i, m := range rs.out.Mounts {
		source, err := rs.outer(m, i)
		if err != nil {
			return err
		}
		rs.call.External(fmt.Sprintf("mnt[%s]:%s", m.At, source))
	}
	return nil
}

// outer is what the mount from outside of that number shows in this container.
func (rs *restoration) outer(m outerMount, number int) (string, error) {
	if m.Cgroup {
		return rs.groupAt(m.At)
	}
	for at := m.At; at != "/"; at = path.Dir(at) {
		if bind, ok := rs.binds[at]; ok {
			return rs.part(bind, strings.TrimPrefix(m.At, at), number)
		}
	}
	if m.Device != "" {
		return hostDevice(path.Clean(m.Device))
	}
	return "", invalid("the checkpoint has a mount at %s, the configuration has none", m.At)
}

// part shows what is at a path of a bind's source: a mount of the host's inside it. What
// lives there can't lead it elsewhere.
func (rs *restoration) part(bind specs.Mount, sub string, number int) (string, error) {
	source := rs.source(bind)
	if sub == "" {
		return source, nil
	}
	at := filepath.Join(rs.r.places(rs.creation.cfg.ID), fmt.Sprint("part", number))
	err := place(specs.Mount{Type: "bind", Source: source}, &mountOptions{subpath: sub}, at)
	if err != nil {
		return "", fmt.Errorf("the checkpoint has a mount at %s in %s: %w", sub, mountName(bind), err)
	}
	return at, nil
}

// hostDevice makes sure that a path is that of one of the host's devices.
func hostDevice(name string) (string, error) {
	var st unix.Stat_t
	if inside(name, "/dev") {
		if err := unix.Lstat(name, &st); err != nil {
			return "", &os.PathError{Op: "device of the checkpoint", Path: name, Err: err}
		}
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return "", invalid("the checkpoint shows %s, which is no device of this host", name)
	}
	return name, nil
}

// groupAt is the folder of the control group that a mount shows.
func (rs *restoration) groupAt(at string) (string, error) {
	for _, h := range rs.group.V1 {
		if strings.TrimPrefix(strings.Join(h.Controllers, ","), "name=") == path.Base(at) {
			return h.Dir, nil
		}
	}
	if rs.group.V2 == "" {
		return "", unsupported("the checkpoint shows control groups at %s that this host has not", at)
	}
	return rs.group.V2, nil
}
