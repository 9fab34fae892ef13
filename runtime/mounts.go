package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// preparedMount is a mount of the configuration with what the parent could do
// for it before there is a container.
type preparedMount struct {
	specs.Mount
	options mountOptions
	fd      int    // detached mount made by the parent, or -1
	source  string // host path that the child is to clone, or empty
	userns  int    // user namespace that says how owners are shifted, or -1
	dir     bool   // the target must be a directory
}

// prepareMounts opens the sources of bind mounts and makes the mounts that need
// the host's files.
func (b *build) prepareMounts() error {
	if _, own := b.namespace(specs.MountNamespace); !own {
		return nil
	}
	for i, m := range b.spec.Mounts {
		pm := preparedMount{Mount: m, options: parseOptions(m.Options), fd: -1, userns: -1, dir: true}
		pm.options.bind = pm.options.bind || m.Type == "bind"
		var err error
		switch {
		case pm.options.bind:
			err = b.prepareBind(&pm)
		case pm.options.copyUp:
			err = b.prepareCopyUp(&pm)
		case pm.Type == "overlay":
			err = b.prepareOverlay(&pm)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", mountName(m), err)
		}
		b.mounts = append(b.mounts, pm)
		if b.root >= 0 && !b.covered(i) {
			if err := b.ensureTarget(m.Destination, pm.dir); err != nil {
				return fmt.Errorf("%s: make the mount point: %w", mountName(m), err)
			}
		}
	}
	return nil
}

// covered reports whether an earlier mount hides the target of mount i.
func (b *build) covered(i int) bool {
	target := path.Clean("/" + b.spec.Mounts[i].Destination)
	for _, m := range b.spec.Mounts[:i] {
		if strings.HasPrefix(target, strings.TrimSuffix(path.Clean("/"+m.Destination), "/")+"/") {
			return true
		}
	}
	return false
}

func (b *build) prepareBind(pm *preparedMount) error {
	source := pm.Source
	if !filepath.IsAbs(source) {
		source = filepath.Join(b.bundle, source)
	}
	at := unix.AT_FDCWD
	if pm.options.subpath != "" {
		fd, err := openSubpath(source, pm.options.subpath)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		at = fd
	}
	var st unix.Stat_t
	if err := statAt(at, source, &st); err != nil {
		return &os.PathError{Op: "bind", Path: source, Err: err}
	}
	pm.dir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if pm.options.idmap || len(pm.UIDMappings) > 0 || len(pm.GIDMappings) > 0 {
		if err := b.idmapOf(pm); err != nil {
			return err
		}
	}
	// Where the host is to be told, we clone: the mounts of the child are slaves by then.
	shared := pm.options.propagation&unix.MS_SHARED != 0 && b.propagation&unix.MS_SHARED != 0
	if !has(b.spec, specs.UserNamespace) && at == unix.AT_FDCWD && !shared {
		// The child sees the same files; if it clones them itself, mounts are
		// listed in the order of the configuration.
		pm.source = source
		return nil
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if pm.options.recursive {
		flags |= unix.AT_RECURSIVE
	}
	if at != unix.AT_FDCWD {
		source, flags = "", flags|unix.AT_EMPTY_PATH
	}
	fd, err := unix.OpenTree(at, source, flags)
	if err != nil {
		return &os.PathError{Op: "bind", Path: pm.Source, Err: err}
	}
	pm.fd = b.own(fd)
	for _, c := range b.changes(pm) {
		if err := unix.MountSetattr(fd, "", c.flags(), &c.attr); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// change is one call of mount_setattr.
type change struct {
	what      string
	recursive bool
	attr      unix.MountAttr
}

func (c change) flags() uint {
	if c.recursive {
		return unix.AT_EMPTY_PATH | unix.AT_RECURSIVE
	}
	return unix.AT_EMPTY_PATH
}

// changes is what is to be done to a fresh clone of a bind mount's source: it is
// cut off the host's peers unless sharing is asked for, and gets its attributes
// and owners.
func (b *build) changes(pm *preparedMount) []change {
	var out []change
	o := &pm.options
	base := uint64(unix.MS_SLAVE)
	if b.propagation != 0 {
		base = b.propagation
	}
	// A clone of a shared mount is shared already.
	if base != unix.MS_SHARED && !(o.propagation != 0 && o.recPropagation) {
		out = append(out, change{"propagation", true, unix.MountAttr{Propagation: base}})
	}
	if o.propagation != 0 {
		out = append(out, change{"propagation", o.recPropagation, unix.MountAttr{Propagation: o.propagation}})
	}
	if a, ok := o.recAttr(); ok {
		out = append(out, change{"attributes", true, a})
	}
	if a, ok := o.attr(); ok {
		out = append(out, change{"attributes", false, a})
	}
	if pm.userns >= 0 {
		out = append(out, change{"owners", o.ridmap || o.recursive && !o.idmap,
			unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(pm.userns)}})
	}
	return out
}

// bind adds the operations of a bind mount that the child clones.
func (b *build) bind(name string, pm *preparedMount) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if pm.options.recursive {
		flags |= unix.AT_RECURSIVE
	}
	clone := table.Result(b.t.Add(name, unix.SYS_OPEN_TREE, atCWD, b.str(pm.source), flags))
	for _, c := range b.changes(pm) {
		b.setattr(name+": "+c.what, clone, c.recursive, c.attr)
	}
	b.attach(name, clone, b.ensure(name, b.root, pm.Destination, pm.dir, inRoot))
}

func setAttrs(fd int, o *mountOptions) error {
	if a, ok := o.recAttr(); ok {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &a); err != nil {
			return err
		}
	}
	if a, ok := o.attr(); ok {
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &a)
	}
	return nil
}

// addMounts adds the operations that put all mounts in place.
func (b *build) addMounts() error {
	for i := range b.mounts {
		pm := &b.mounts[i]
		name := mountName(pm.Mount)
		switch {
		case pm.options.remount:
			b.remount(name, pm)
		case pm.source != "":
			b.bind(name, pm)
		case pm.fd >= 0:
			target := b.ensure(name, b.root, pm.Destination, pm.dir, inRoot)
			b.attach(name, pm.fd, target)
		case pm.Type == "cgroup" && !b.group.Unified:
			b.cgroupV1(name, pm)
		case pm.Type == "cgroup" || pm.Type == "cgroup2":
			if err := b.cgroupV2(name, pm); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		default:
			b.fresh(name, pm)
		}
	}
	return nil
}

// remount changes the attributes of what is mounted at the target.
func (b *build) remount(name string, pm *preparedMount) {
	target := b.ensure(name, b.root, pm.Destination, true, inRoot)
	if a, ok := pm.options.attr(); ok {
		b.setattr(name, target, false, a)
	}
}

// fresh mounts a new file system.
func (b *build) fresh(name string, pm *preparedMount) {
	resolve := uint64(inRoot)
	if pm.Type == "proc" || pm.Type == "sysfs" {
		resolve = inRootHard // these must be where the masks will look for them
	}
	target := b.ensure(name, b.root, pm.Destination, true, resolve)
	data := pm.options.data
	if pm.Type == "mqueue" {
		data = nil
	}
	if b.labels && b.spec.Linux.MountLabel != "" && pm.Type != "proc" && pm.Type != "sysfs" {
		data = append(data[:len(data):len(data)], "context="+b.spec.Linux.MountLabel)
	}
	attrs := pm.options.set
	late := uint64(0)
	if pm.Type == "tmpfs" && pm.options.set&unix.MOUNT_ATTR_RDONLY != 0 {
		// Later mounts and devices must still find a place in it.
		late, attrs = unix.MOUNT_ATTR_RDONLY, attrs&^unix.MOUNT_ATTR_RDONLY
	}
	mnt := b.filesystem(name, pm.Type, sourceOf(pm), data, attrs)
	b.attach(name, mnt, target)
	if a, ok := pm.options.recAttr(); ok {
		b.setattr(name, mnt, true, a)
	}
	b.propagate(name, mnt, &pm.options)
	if late != 0 {
		b.late = append(b.late, lateMount{name, mnt})
	}
	if pm.Type == "proc" && path.Clean(pm.Destination) == "/proc" {
		b.proc = mnt
	}
}

// lateMount becomes read-only when everything is in place.
type lateMount struct {
	name string
	mnt  table.Result
}

func sourceOf(pm *preparedMount) string {
	if pm.Source == "" {
		return pm.Type
	}
	return pm.Source
}

func (b *build) propagate(name string, mnt any, o *mountOptions) {
	if o.propagation != 0 {
		b.setattr(name, mnt, o.recPropagation, unix.MountAttr{Propagation: o.propagation})
	}
}

// cgroupV1 shows the version 1 hierarchies below one directory.
func (b *build) cgroupV1(name string, pm *preparedMount) {
	target := b.ensure(name, b.root, pm.Destination, true, inRoot)
	tmpfs := b.filesystem(name, "tmpfs", "tmpfs", []string{"mode=755"}, pm.options.set&^unix.MOUNT_ATTR_RDONLY)
	b.attach(name, tmpfs, target)
	for _, h := range b.group.V1 {
		base := strings.TrimPrefix(strings.Join(h.Controllers, ","), "name=")
		b.t.Add(name, unix.SYS_MKDIRAT, tmpfs, b.str(base), 0o755)
		at := b.openIn(name, tmpfs, base, unix.O_PATH|unix.O_DIRECTORY, inRootHard)
		if b.creates(specs.CgroupNamespace) {
			data := h.Controllers
			if strings.HasPrefix(data[0], "name=") {
				data = []string{"none", data[0]}
			}
			mnt := b.filesystem(name+" ("+base+")", "cgroup", "cgroup", data, pm.options.set)
			b.attach(name, mnt, table.Result(at))
		} else if b.scoped {
			b.attach(name, b.scopeMount(name, h.Dir, pm), table.Result(at))
		} else if fd, err := unix.OpenTree(unix.AT_FDCWD, h.Dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err == nil {
			b.own(fd)
			o := pm.options
			setAttrs(fd, &o)
			unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
			b.attach(name, fd, table.Result(at))
		}
		for _, c := range h.Controllers {
			if len(h.Controllers) > 1 {
				b.t.Add(name, unix.SYS_SYMLINKAT, b.str(base), tmpfs, b.str(c))
			}
		}
	}
	if pm.options.set&unix.MOUNT_ATTR_RDONLY != 0 {
		b.late = append(b.late, lateMount{name, tmpfs})
	}
}

// cgroupV2 shows the unified hierarchy, in a cgroup namespace of its own or not.
func (b *build) cgroupV2(name string, pm *preparedMount) error {
	target := b.ensure(name, b.root, pm.Destination, true, inRoot)
	if b.creates(specs.CgroupNamespace) {
		mnt := b.filesystem(name, "cgroup2", "cgroup", nil, pm.options.set)
		b.attach(name, mnt, target)
		return nil
	}
	if b.group.V2 == "" {
		return unsupported("no cgroup version 2 on this host")
	}
	if b.scoped { // it is not there yet
		b.attach(name, b.scopeMount(name, b.group.V2, pm), target)
		return nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, b.group.V2, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	b.own(fd)
	unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	o := pm.options
	if err := setAttrs(fd, &o); err != nil {
		return err
	}
	b.attach(name, fd, target)
	return nil
}

// scopeMount lets the child clone the mount of its group, once it is in it.
func (b *build) scopeMount(name, dir string, pm *preparedMount) table.Result {
	tree := table.Result(b.t.Add(name, unix.SYS_OPEN_TREE, atCWD, b.str(dir), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
	b.setattr(name, tree, false, unix.MountAttr{Attr_set: pm.options.set, Attr_clr: pm.options.clear, Propagation: unix.MS_SLAVE})
	return tree
}

// maskPaths hides files behind /dev/null and directories behind an empty,
// read-only tmpfs. All lookups start from our own descriptor of the root, and
// what is put on top is a clone of a verified device or a file system of ours.
func (b *build) maskPaths(null any) {
	t := b.t
	for _, file := range b.spec.Linux.MaskedPaths {
		name := "mask " + file
		dir := b.tolerant(b.openIn(name, b.root, file, unix.O_PATH|unix.O_DIRECTORY, inRoot), syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES)
		empty := b.filesystem(name, "tmpfs", "tmpfs", []string{"nr_blocks=1", "nr_inodes=1"},
			unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
		b.attach(name, empty, table.Result(dir))
		done := t.Test(name, uint64(0), 0, 0)
		t.Else(dir)
		plain := b.tolerant(b.openIn(name, b.root, file, unix.O_PATH, inRoot), syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES)
		b.attach(name, b.bindOf(name, null, false), table.Result(plain))
		t.Then(done)
		t.Else(plain)
	}
}

// readonlyPaths makes trees below the root read-only.
func (b *build) readonlyPaths() {
	t := b.t
	for _, file := range b.spec.Linux.ReadonlyPaths {
		name := "make read-only " + file
		at := b.tolerant(b.openIn(name, b.root, file, unix.O_PATH, inRoot), syscall.ENOENT, syscall.ENOTDIR)
		clone := b.bindOf(name, table.Result(at), true)
		b.setattr(name, clone, true, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		b.attach(name, clone, table.Result(at))
		t.Else(at)
	}
}

// propagateRoot gives the container's root the propagation asked for.
func (b *build) propagateRoot() {
	if b.propagation != 0 {
		b.setattr("propagation of the root", b.root, false, unix.MountAttr{Propagation: b.propagation})
	}
}

var errSymlinkLoop = errors.New("too many symbolic links")

// maxLinks is the kernel's own limit on links in one path.
const maxLinks = 40

// ensureTarget makes a mount point in the container's root before there is a
// container, following the image's own links (also dangling ones) inside it.
func (b *build) ensureTarget(file string, dir bool) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot}
	fd, err := unix.Openat2(b.root, clean(file), &how)
	if err == nil {
		unix.Close(fd)
		return nil
	}
	if err != unix.ENOENT {
		return nil // the child will say what is wrong
	}
	at, links := "/", 0
	rest := strings.Split(strings.Trim(path.Clean("/"+file), "/"), "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		if part == ".." || part == "." || part == "" {
			at = path.Join(at, part)
			continue
		}
		link, err := b.step(at, part, dir || len(rest) > 0)
		if err != nil {
			return err
		}
		if link == "" {
			at = path.Join(at, part)
			continue
		}
		if links++; links > maxLinks {
			return errSymlinkLoop
		}
		if path.IsAbs(link) {
			at = "/"
		}
		rest = append(strings.Split(strings.Trim(link, "/"), "/"), rest...)
	}
	return nil
}

// step looks at one name in a directory of the root: it returns the target of a
// link, and makes what is missing.
func (b *build) step(at, part string, dir bool) (link string, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inRootHard}
	fd, err := unix.Openat2(b.root, clean(at), &how)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(fd, part, buf); err == nil {
		return string(buf[:n]), nil
	} else if err != unix.ENOENT {
		return "", nil // something that is no link
	}
	make := func() error {
		if dir {
			return unix.Mkdirat(fd, part, 0o755)
		}
		return unix.Mknodat(fd, part, unix.S_IFREG|0o644, 0)
	}
	if b.rootUID != 0 || b.rootGID != 0 {
		err = mounts.AsOwner(uint32(b.rootUID), uint32(b.rootGID), make)
	} else {
		err = make()
	}
	if err == unix.EEXIST || err == unix.EROFS {
		return "", nil
	}
	return "", err
}
