package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
)

// errNeedsOldCall says that this kernel can do the mount by mount(2) alone.
var errNeedsOldCall = errors.New("needs mount(2)")

// maxValue is the longest string fsconfig takes, without its NUL.
const maxValue = 255

// cloneTree makes a detached copy of the tree at source.
func cloneTree(source string, o options) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if o.recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return -1, fmt.Errorf("bind %s: %w", source, err)
	}
	if o.set|o.clear != 0 {
		attr := &unix.MountAttr{Attr_set: o.set, Attr_clr: o.clear}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("bind %s: flags: %w", source, err)
		}
	}
	return fd, nil
}

// newFilesystem makes a detached mount of a file system.
func newFilesystem(m mount.Mount, o options) (int, error) {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return -1, fmt.Errorf("mount: the kernel has no file system %q: %w", m.Type, err)
	}
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", m.Type, err)
	}
	defer unix.Close(fs)
	c := fsContext{fd: fs, kind: m.Type}
	defer c.release()
	if err := c.configure(m, o); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, c.explain("create", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(o.set))
	if err != nil {
		return -1, c.explain("fsmount", err)
	}
	return fd, nil
}

// fsContext is a file system being configured.
type fsContext struct {
	fd   int
	kind string
	held []int // descriptors that stand for long paths
}

func (c *fsContext) release() {
	for _, fd := range c.held {
		unix.Close(fd)
	}
}

func (c *fsContext) configure(m mount.Mount, o options) error {
	if m.Source != "" {
		if err := c.setPath("source", m.Source); err != nil {
			return err
		}
	}
	if o.readOnly {
		if err := unix.FsconfigSetFlag(c.fd, "ro"); err != nil {
			return c.explain("ro", err)
		}
	}
	for _, opt := range o.data {
		key, value, isPair := strings.Cut(opt, "=")
		var err error
		switch {
		case c.kind == "overlay" && key == "lowerdir":
			err = c.setLayers(value)
		case c.kind == "overlay" && (key == "upperdir" || key == "workdir"):
			err = c.setPath(key, unescape(value))
		case isPair:
			err = c.set(key, value)
		default:
			if err = unix.FsconfigSetFlag(c.fd, opt); err != nil {
				err = c.explain(opt, err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *fsContext) setLayers(list string) error {
	if OldOverlay() {
		return errNeedsOldCall
	}
	lower, data := splitLayers(list)
	for _, dir := range lower {
		if err := c.setPath("lowerdir+", dir); err != nil {
			return err
		}
	}
	for _, dir := range data {
		if err := c.setPath("datadir+", dir); err != nil {
			return err
		}
	}
	return nil
}

// setPath sets a path, through a descriptor where it is longer than fsconfig's
// strings.
func (c *fsContext) setPath(key, path string) error {
	if len(path) <= maxValue {
		return c.set(key, path)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount %s: %s=%s: %w", c.kind, key, path, err)
	}
	c.held = append(c.held, fd)
	return c.set(key, fmt.Sprintf("/proc/self/fd/%d", fd))
}

func (c *fsContext) set(key, value string) error {
	if len(value) > maxValue {
		return errNeedsOldCall
	}
	if err := unix.FsconfigSetString(c.fd, key, value); err != nil {
		return c.explain(key+"="+value, err)
	}
	return nil
}

// explain adds what the kernel says about the context to err.
func (c *fsContext) explain(what string, err error) error {
	var words []string
	var buf [1024]byte
	for range 16 {
		n, rerr := unix.Read(c.fd, buf[:])
		if rerr != nil || n <= 0 {
			break
		}
		line := strings.TrimSpace(string(buf[:n]))
		if len(line) > 2 && line[1] == ' ' { // "e text", "w text", "i text"
			line = line[2:]
		}
		words = append(words, line)
	}
	if len(words) == 0 {
		return fmt.Errorf("mount %s: %s: %w", c.kind, what, err)
	}
	return fmt.Errorf("mount %s: %s: %w (kernel: %s)", c.kind, what, err, strings.Join(words, "; "))
}

// OldOverlay tells by the version (< 6.5) that the kernel doesn't take an overlay's
// layers one by one. It can't be asked: up to then any option is taken, and refused
// when the file system is made.
var OldOverlay = sync.OnceValue(func() bool { return olderThan(6, 5) })

// olderThan tells that the kernel's version is, or isn't known.
func olderThan(wantMajor, wantMinor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major < wantMajor || major == wantMajor && minor < wantMinor
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// oldMount is mount(2), for kernels without "lowerdir+" and for values that
// fsconfig can't take.
func oldMount(m mount.Mount, target string) error {
	o := parse(m)
	data := strings.Join(o.data, ",")
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("mount %s at %s: %d bytes of options don't fit this kernel's page of %d: too many layers",
			m.Type, target, len(data), os.Getpagesize())
	}
	var flags uintptr
	for attr, ms := range map[uint64]uintptr{
		unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID,
		unix.MOUNT_ATTR_NODEV: unix.MS_NODEV, unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC,
		unix.MOUNT_ATTR_NOATIME: unix.MS_NOATIME, unix.MOUNT_ATTR_NODIRATIME: unix.MS_NODIRATIME,
	} {
		if o.set&attr != 0 {
			flags |= ms
		}
	}
	if err := unix.Mount(m.Source, target, m.Type, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.Type, target, err)
	}
	return nil
}
