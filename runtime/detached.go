package runtime

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"golang.org/x/sys/unix"
)

// mountDetached makes a list of mounts of which nothing shows in any mount table.
// Only the first may be anything but on top of it.
func mountDetached(list []mount.Mount) (int, error) {
	if len(list) > 1 {
		return -1, unsupported("%d mounts for one root file system", len(list))
	}
	list, users, err := Shift(list)
	if err != nil {
		return -1, err
	}
	defer runtime.KeepAlive(users)
	m := list[0]
	if users != nil {
		return openShifted(m)
	}
	o := parseOptions(m.Options)
	fd := -1
	if o.bind || m.Type == "bind" || m.Type == "none" {
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if o.recursive {
			flags |= unix.AT_RECURSIVE
		}
		if fd, err = unix.OpenTree(unix.AT_FDCWD, m.Source, flags); err != nil {
			return -1, &os.PathError{Op: "bind", Path: m.Source, Err: err}
		}
		if err := setAttrs(fd, &o); err != nil {
			unix.Close(fd)
			return -1, err
		}
		return fd, nil
	}
	if m.Type == "overlay" && mounts.OldOverlay() {
		f, err := mounts.OpenAny(m)
		if err != nil {
			return -1, err
		}
		defer f.Close()
		return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	}
	fd, err = fsmount(m.Type, m.Source, o.data, o.set)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", m.Type, err)
	}
	return fd, nil
}

// fsmount makes one new file system mount.
func fsmount(fstype, source string, data []string, attrs uint64) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if source != "" {
		if err := unix.FsconfigSetString(fs, "source", source); err != nil {
			return -1, fsError(fs, "source", err)
		}
	}
	for _, d := range data {
		if err := fsOption(fs, fstype, d, attrs); err != nil {
			return -1, err
		}
	}
	if attrs&unix.MOUNT_ATTR_RDONLY != 0 && fstype != "overlay" {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return -1, fsError(fs, "ro", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fsError(fs, "create", err)
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attrs))
}

// fsOption sets one option. The lower directories of an overlay go one by one,
// as a value is limited to 256 bytes.
func fsOption(fs int, fstype, d string, attrs uint64) error {
	key, value, ok := strings.Cut(d, "=")
	if !ok {
		if err := unix.FsconfigSetFlag(fs, key); err != nil {
			return fsError(fs, d, err)
		}
		return nil
	}
	values := []string{value}
	if fstype == "overlay" && key == "lowerdir" {
		key, values = "lowerdir+", splitLower(value)
	}
	for _, v := range values {
		if err := unix.FsconfigSetString(fs, key, v); err != nil {
			return fsError(fs, key+"="+v, err)
		}
	}
	return nil
}

// splitLower splits at colons that are not escaped, and undoes the escapes.
func splitLower(s string) []string {
	var out []string
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			part.WriteByte(s[i])
		case s[i] == ':':
			out = append(out, part.String())
			part.Reset()
		default:
			part.WriteByte(s[i])
		}
	}
	return append(out, part.String())
}

// fsError adds what the file system has to say about an error.
func fsError(fs int, what string, err error) error {
	buf := make([]byte, 4096)
	if n, e := unix.Read(fs, buf); e == nil && n > 0 {
		return fmt.Errorf("%s: %w (%s)", what, err, strings.TrimSpace(string(buf[:n])))
	}
	return fmt.Errorf("%s: %w", what, err)
}
