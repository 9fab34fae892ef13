package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	coremount "github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/userns"
)

// rootView is a container's tree as the container sees it, with its mounts. All
// lookups start at the descriptor of its root and can't leave it (openat2 with
// RESOLVE_IN_ROOT): whoever lives in there may swap what it likes.
type rootView struct {
	root *os.File // O_PATH
	// users are those of the container, nil if they are the host's: files are seen with
	// their owners on the host.
	users *userns.Maps
}

// inside is how paths of a container are looked up.
const inside = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// open looks a path up; flags as in open(2).
func (v *rootView) open(name string, flags uint64) (*os.File, error) {
	fd, err := unix.Openat2(int(v.root.Fd()), name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: inside})
	for tries := 0; errors.Is(err, unix.EAGAIN) && tries < 64; tries++ { // something was renamed meanwhile
		fd, err = unix.Openat2(int(v.root.Fd()), name, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: inside})
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// makeTarget makes a folder, and those on the way, or a file if dir is not set.
func (v *rootView) makeTarget(name string, dir bool) error {
	parts := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	for i, part := range parts {
		at, err := v.open("/"+path.Join(parts[:i]...), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		if dir || i < len(parts)-1 {
			err = unix.Mkdirat(int(at.Fd()), part, 0o755)
		} else {
			err = unix.Mknodat(int(at.Fd()), part, unix.S_IFREG|0o644, 0)
		}
		at.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "make", Path: name, Err: err}
		}
	}
	return nil
}

// withRoot calls fn with a container's tree: the one that its process sees if it
// runs, else one that is put together in a mount namespace that only fn's thread is
// in, and that goes with it. The tree of a container that doesn't run is held: it
// can't be started meanwhile.
func (e *Engine) withRoot(ctx context.Context, c *Container, fn func(v *rootView) error) error {
	root, err := c.liveRoot()
	if err != nil {
		return err
	}
	if root != nil {
		return e.withLive(ctx, c, root, fn)
	}
	c.op.Lock()
	defer c.op.Unlock()
	if root, err = c.liveRoot(); err != nil {
		return err
	}
	if root != nil { // it has been started
		return e.withLive(ctx, c, root, fn)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends, and its namespace with it
		done <- e.inNamespace(ctx, c, fn)
	}()
	return <-done
}

// liveRoot is the root of a container's process; nil if it doesn't run.
func (c *Container) liveRoot() (*os.File, error) {
	s := c.state()
	if !s.Running || s.PID == 0 {
		return nil, nil
	}
	proc, err := os.OpenFile(fmt.Sprintf("/proc/%d", s.PID), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil // it has just ended
	}
	defer proc.Close()
	if now := c.state(); now.PID != s.PID || !now.Running {
		return nil, nil // the number may be another's already
	}
	fd, err := unix.Openat(int(proc.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil, worded.New(errdefs.ErrConflict, "container %s is ending", short(c.ID))
	}
	if err != nil {
		return nil, fmt.Errorf("root of container %s: %w", c.ID, err)
	}
	return os.NewFile(uintptr(fd), "root of container"), nil
}

// inNamespace puts the tree of a container that doesn't run together, as it would be
// but for what is memory. Its thread must end afterwards.
func (e *Engine) inNamespace(ctx context.Context, c *Container, fn func(v *rootView) error) error {
	view := e.view(c)
	s, err := e.Snapshots(view.Snapshotter)
	if err != nil {
		return err
	}
	rootfs, err := s.Mounts(ctx, view.Snapshot)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	users, shift, err := e.shifter(view.HostConfig)
	if err != nil {
		return err
	}
	defer shift.close()
	parts, err := e.partsOf(ctx, c, view, shift)
	defer e.closeParts(ctx, c, parts)
	if err != nil {
		return err
	}
	if err := mounts.All(shift.all(rootfs), e.at.State); err != nil { // any folder would do: nobody else sees it
		return err
	}
	root, err := os.OpenFile(e.at.State, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	v := &rootView{root, users}
	return asRoot(users, func() error { return v.complete(view, parts, fn) })
}

// complete mounts what is in a container's tree and calls fn.
func (v *rootView) complete(view View, parts []part, fn func(v *rootView) error) error {
	for _, p := range parts {
		if err := v.attach(p); err != nil {
			return err
		}
	}
	if view.HostConfig.ReadonlyRootfs {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(int(v.root.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
			return fmt.Errorf("read-only root: %w", err)
		}
	}
	return fn(v)
}

// part is something mounted in a container's tree.
type part struct {
	source *os.File // a mount that is attached nowhere
	target string
	dir    bool
	volume string // that is used
}

// partsOf opens what is mounted in a container, before its root hides anything.
func (e *Engine) partsOf(ctx context.Context, c *Container, v View, shift *shift) (out []part, err error) {
	list := v.Mounts
	for _, name := range []string{hostsFile, hostnameFile, resolvFile} {
		file := filepath.Join(v.Folder, name)
		if _, err := os.Lstat(file); err == nil && !taken(list, "/etc/"+name) {
			out = append(out, part{target: "/etc/" + name})
			if err := out[len(out)-1].open(MountPoint{Source: file}, shift); err != nil {
				return out, err
			}
		}
	}
	for _, m := range list {
		if m.Type == mount.TypeTmpfs {
			continue
		}
		p := part{target: m.Target}
		if m.Type == mount.TypeImage {
			shown, err := e.imageMount(ctx, v, &m)
			if err == nil {
				err = p.show(shift.one(shown), m.Subpath)
			}
			out = append(out, p)
			if err != nil {
				return out, err
			}
			continue
		}
		if m.Type == mount.TypeVolume {
			if _, err := e.Volumes.Use(ctx, m.Name, copying(c)); err != nil {
				return out, err
			}
			p.volume = m.Name
		}
		by := shift
		if m.Type == mount.TypeBind {
			by = nil // the host's files stay the host's
		}
		err := p.open(m, by)
		out = append(out, p)
		if m.Type == mount.TypeBind && errors.Is(err, fs.ErrNotExist) {
			out = out[:len(out)-1] // it would be made, or refused, at the start
		} else if err != nil {
			return out, err
		}
	}
	return out, nil
}

// copying names who uses a container's volumes while it doesn't run.
func copying(c *Container) string { return c.ID + " (copying)" }

func (p *part) open(m MountPoint, shift *shift) error {
	options := []string{"rbind"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	source := m.Source
	if m.Subpath != "" {
		base, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer base.Close()
		sub, err := (&rootView{root: base}).open(m.Subpath, unix.O_PATH)
		if err != nil {
			return err
		}
		defer sub.Close()
		source = fdPath(sub)
	}
	return p.show(shift.one(coremount.Mount{Type: "bind", Source: source, Options: options}), "")
}

// show opens a mount that is attached nowhere, or a part of it.
func (p *part) show(m coremount.Mount, subpath string) error {
	f, err := mounts.OpenAny(m)
	if err != nil {
		return err
	}
	if subpath != "" {
		defer f.Close()
		sub, err := (&rootView{root: f}).open(subpath, unix.O_PATH)
		if err != nil {
			return err
		}
		defer sub.Close()
		options := []string{"rbind"}
		if slices.Contains(m.Options, "ro") {
			options = append(options, "ro")
		}
		if f, err = mounts.Open(coremount.Mount{Type: "bind", Source: fdPath(sub), Options: options}); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return err
	}
	p.source, p.dir = f, st.Mode&unix.S_IFMT == unix.S_IFDIR
	return nil
}

func (e *Engine) closeParts(ctx context.Context, c *Container, list []part) {
	for _, p := range list {
		if p.source != nil {
			p.source.Close()
		}
		if p.volume == "" {
			continue
		}
		if err := e.Volumes.Done(ctx, p.volume, copying(c)); err != nil {
			log.G(ctx).WithError(err).Warnf("volume %s", p.volume)
		}
	}
}

// attach mounts a part at its target, which is made if it is missing.
func (v *rootView) attach(p part) error {
	at, err := v.open(p.target, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		if err := v.makeTarget(p.target, p.dir); err != nil {
			return err
		}
		at, err = v.open(p.target, unix.O_PATH)
	}
	if err != nil {
		return err
	}
	defer at.Close()
	err = unix.MoveMount(int(p.source.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount at %s of a container: %w", p.target, err)
	}
	return nil
}
