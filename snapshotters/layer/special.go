package layer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/snapshotters/layer/tarstream"
)

// rootProcess tells that new files are root's by themselves.
var rootProcess = os.Geteuid() == 0 && os.Getegid() == 0

// processUmask reads the umask without changing it. It is asked once; nothing
// in a daemon changes it later.
var processUmask = sync.OnceValue(func() uint32 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return 0o777 // unknown: always set the mode
})

func (a *applier) symlink(dir *node, base string, e *tarstream.Entry) error {
	if len(e.Linkname) >= maxName {
		return fmt.Errorf("link of %d bytes: %w", len(e.Linkname), ErrLimit)
	}
	err := a.place(dir, base, func() error { return unix.Symlinkat(e.Linkname, dir.fd, base) })
	if err != nil {
		return err
	}
	a.stats.Inodes++
	return a.dressByName(dir, base, e)
}

// hardlink gives an existing file another name. The file's owner, mode and
// attributes are those of its own entry.
func (a *applier) hardlink(dir *node, base string, e *tarstream.Entry) error {
	target, err := clean(e.Linkname)
	if err != nil {
		return err
	}
	if target == "" {
		return fmt.Errorf("hard link to the root: %w", ErrBreakout)
	}
	parent, name := split(a.under(target))
	from, err := a.dir(parent, false)
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", e.Linkname, err)
	}
	if from.path == dir.path && name == base {
		return nil // a link to itself
	}
	err = a.place(dir, base, func() error { return unix.Linkat(from.fd, name, dir.fd, base, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", e.Linkname, err)
	}
	return nil
}

func (a *applier) special(dir *node, base string, e *tarstream.Entry) error {
	mode := e.Mode & 0o777
	switch e.Type {
	case tarstream.TypeChar:
		mode |= unix.S_IFCHR
	case tarstream.TypeBlock:
		mode |= unix.S_IFBLK
	default:
		mode |= unix.S_IFIFO
	}
	dev := int(unix.Mkdev(e.Major, e.Minor))
	err := a.place(dir, base, func() error { return unix.Mknodat(dir.fd, base, mode, dev) })
	if errors.Is(err, unix.EPERM) && a.opts.AllowUnmapped && e.Type != tarstream.TypeFifo {
		a.stats.Skipped++
		return nil
	}
	if err != nil {
		return err
	}
	a.stats.Inodes++
	return a.dressByName(dir, base, e)
}

// dressByName gives what was just made its owner, mode, attributes and time,
// without following it if it is a link.
func (a *applier) dressByName(dir *node, base string, e *tarstream.Entry) error {
	fd, err := unix.Openat(dir.fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchownat(fd, "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("owner %d:%d: %w", e.UID, e.GID, err)
	}
	if e.Type != tarstream.TypeSymlink {
		// chmod has no form for O_PATH descriptors before Linux 6.6; this link
		// leads to the very inode.
		if err := unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), e.Mode); err != nil {
			return fmt.Errorf("mode: %w", err)
		}
	}
	for _, x := range e.Xattrs {
		if strings.HasPrefix(x.Name, "user.") {
			a.stats.Skipped++ // the kernel has none on links and devices
			continue
		}
		if err := a.xattr(x, func(name string, value []byte) error {
			return unix.Lsetxattr(fdPath(dir.fd, base), name, value, 0)
		}); err != nil {
			return err
		}
	}
	ts := timespecs(e.ModTime)
	return unix.UtimesNanoAt(dir.fd, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// xattr sets one attribute unless it is overlayfs's own: with those a layer
// could point into other layers.
func (a *applier) xattr(x tarstream.Xattr, set func(string, []byte) error) error {
	if isOverlayXattr(x.Name) {
		a.stats.Skipped++
		return nil
	}
	err := set(x.Name, []byte(x.Value))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM) && a.opts.AllowUnmapped:
		a.stats.Skipped++
		return nil
	}
	return fmt.Errorf("attribute %.100q: %w", x.Name, err)
}

func isOverlayXattr(name string) bool {
	return strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.")
}

func checkXattrs(xs []tarstream.Xattr) error {
	for _, x := range xs {
		if len(x.Value) > maxXattr || len(x.Name) > 255 {
			return fmt.Errorf("attribute %.100q of %d bytes: %w", x.Name, len(x.Value), ErrLimit)
		}
	}
	return nil
}

// timespecs are access and modification time, both the archive's.
func timespecs(at time.Time) [2]unix.Timespec {
	ts := unix.NsecToTimespec(at.UnixNano())
	// UnixNano overflows outside of the years 1678 to 2262.
	if at.Year() < 1700 || at.Year() > 2200 {
		ts = unix.Timespec{Sec: at.Unix()}
	}
	return [2]unix.Timespec{ts, ts}
}

// setTimes sets the times of an open file; a nil path means the descriptor.
func setTimes(fd int, at time.Time) error {
	ts := timespecs(at)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("times: %w", errno)
	}
	return nil
}
