package runtime

import (
	"path"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// standardDevices exist in every container.
var standardDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// standardLinks likewise.
var standardLinks = [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}}

// ownsDev reports whether /dev is the container's own: not bound from the host.
func (b *build) ownsDev() bool {
	for _, m := range b.spec.Mounts {
		if path.Clean(m.Destination) == "/dev" && isBind(m) {
			return false
		}
	}
	return true
}

// addDevices makes the devices and links of /dev.
func (b *build) addDevices() error {
	if !b.ownsDev() {
		return nil
	}
	b.t.Add("umask", unix.SYS_UMASK, 0)
	done := map[string]bool{}
	var list []specs.LinuxDevice
	if b.spec.Linux != nil {
		list = b.spec.Linux.Devices
	}
	for _, d := range append(list[:len(list):len(list)], standardDevices...) {
		file := path.Clean("/" + d.Path)
		if done[file] || file == "/dev/ptmx" {
			continue
		}
		done[file] = true
		if err := b.device(d, file); err != nil {
			return err
		}
	}
	dev := b.ensure("make /dev", b.root, "/dev", true, inRoot)
	for _, l := range standardLinks {
		b.tolerant(b.t.Add("link /dev/"+l[1], unix.SYS_SYMLINKAT, b.str(l[0]), dev, b.str(l[1])), syscall.EEXIST)
	}
	for _, m := range b.spec.Mounts {
		if path.Clean(m.Destination) == "/dev/pts" && m.Type == "devpts" {
			b.tolerant(b.t.Add("unlink /dev/ptmx", unix.SYS_UNLINKAT, dev, b.str("ptmx"), 0))
			b.tolerant(b.t.Add("link /dev/ptmx", unix.SYS_SYMLINKAT, b.str("pts/ptmx"), dev, b.str("ptmx")), syscall.EEXIST)
		}
	}
	b.t.Add("umask", unix.SYS_UMASK, 0o022)
	return nil
}

// device makes one device node, or binds the host's where nodes can't be made.
func (b *build) device(d specs.LinuxDevice, file string) error {
	kind, ok := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	if !ok {
		return invalid("device %s of type %q", d.Path, d.Type)
	}
	name := "make device " + file
	if b.rootUID != 0 || b.rootGID != 0 || b.joins(specs.UserNamespace) || b.creates(specs.UserNamespace) || userns.Nested() {
		return b.bindDevice(name, file, kind, d)
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	dir := b.ensure(name, b.root, path.Dir(file), true, inRoot)
	base := b.str(path.Base(file))
	t := b.t
	// A node or file of that name in the image gives way.
	b.tolerant(t.Add(name, unix.SYS_UNLINKAT, dir, base, 0), syscall.ENOENT, syscall.EISDIR, syscall.EROFS, syscall.EBUSY)
	t.Add(name, unix.SYS_MKNODAT, dir, base, kind|mode, unix.Mkdev(uint32(d.Major), uint32(d.Minor)))
	uid, gid := 0, 0
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	if uid != 0 || gid != 0 {
		t.Add(name, unix.SYS_FCHOWNAT, dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	return nil
}

// bindDevice shows a host device, after a check that it is the right one.
func (b *build) bindDevice(name, file string, kind uint32, d specs.LinuxDevice) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, file, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return invalid("device %s is not on the host: %w", file, err)
	}
	b.own(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
		return invalid("device %s on the host is another one", file)
	}
	unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE})
	b.attach(name, fd, b.ensure(name, b.root, file, false, inRoot))
	return nil
}

// addConsole makes the terminal inside the container's own devpts, hands its
// master to the parent and shows the other end as /dev/console. The other end is
// opened through the master, never by a path that the image could redirect.
func (b *build) addConsole() {
	if b.spec.Process == nil || !b.spec.Process.Terminal {
		return
	}
	slave := b.openTerminal(b.root, b.sock)
	if b.ownsDev() {
		name := "mount /dev/console"
		at := b.ensure(name, b.root, "/dev/console", false, inRootHard)
		b.attach(name, b.bindOf(name, slave, false), at)
	}
	b.terminal = slave
}

// openTerminal opens a new terminal below root.
func (p *plan) openTerminal(root any, sock int) table.Result {
	t := p.t
	name := "open a terminal"
	master := p.openIn(name, root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, inRoot)
	buf := uint64(t.Alloc(256))
	t.Add(name, unix.SYS_FSTATFS, table.Result(master), buf)
	real := t.Test(name, table.At(buf), ^uint64(0), unix.DEVPTS_SUPER_MAGIC)
	past := t.Test(name, uint64(0), 0, 0)
	t.Else(real)
	t.Fail("/dev/pts/ptmx is not a terminal device", syscall.ENOTTY)
	t.Then(past)
	zero := uint64(t.Alloc(8))
	t.Add(name, unix.SYS_IOCTL, table.Result(master), unix.TIOCSPTLCK, zero)
	slave := t.Add(name, unix.SYS_IOCTL, table.Result(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if p.size != nil {
		ws := unix.Winsize{Row: uint16(min(p.size.Height, 65535)), Col: uint16(min(p.size.Width, 65535))}
		t.Add(name, unix.SYS_IOCTL, table.Result(slave), unix.TIOCSWINSZ, put(p, ws))
	}
	p.passFile(stepConsole, sock, table.Result(master))
	t.Add(name, unix.SYS_CLOSE, table.Result(master))
	return table.Result(slave)
}

// addWorkDir makes the working directory if the image lacks it.
func (b *build) addWorkDir() {
	if b.spec.Process == nil {
		return
	}
	dir := path.Clean(b.spec.Process.Cwd)
	if dir == "/" || dir == "." || strings.HasPrefix(dir, "/proc/") {
		return
	}
	const name = "make the working directory"
	t := b.t
	missing := b.tolerant(b.openIn(name, b.root, dir, unix.O_PATH, inRoot))
	have := t.Test(name, uint64(0), 0, 0) // always true: jumps to the end
	t.Else(missing)
	var parent any = b.root
	parts := strings.Split(strings.Trim(dir, "/"), "/")
	for i, part := range parts {
		// Entering it later says what is wrong, if something is.
		b.tolerant(t.Add(name, unix.SYS_MKDIRAT, parent, b.str(part), 0o755))
		parent = table.Result(b.tolerant(b.openIn(name, b.root, strings.Join(parts[:i+1], "/"), unix.O_PATH|unix.O_DIRECTORY, inRoot)))
	}
	t.Then(have)
}
