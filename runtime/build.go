package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/runtime/cgroup"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// build is the plan of a container's first process.
type build struct {
	*plan
	spec        *specs.Spec
	id, bundle  string
	group       *cgroup.Group
	scoped      bool // systemd makes the group once the child waits
	mounts      []preparedMount
	late        []lateMount
	root        int    // the root file system's mount, detached until the child attaches it; or -1
	propagation uint64 // MS_* of rootfsPropagation, or 0
	rootUID     int    // who root in the container is on the host
	rootGID     int
	noPivot     bool
	proc        any // the container's procfs, once mounted
	sock        int // the child's end of the socket
	gate        int // what the child reads before it executes the program
	hooked      bool
	shared      bool   // the child uses our memory until it executes the program
	labels      bool   // the kernel has SELinux, so mounts can be labelled
	inner       uint64 // address of the id of a process cloned by the child, or 0
}

// Steps that the child reports.
const (
	stepGroup   = 'g' // systemd can make the control group
	stepMaps    = 'm' // user ids can be mapped, clocks set, devices moved
	stepHooks   = 'h' // mounts are made, the root is not changed yet
	stepConsole = 'p' // here is the terminal
	stepCreated = 'c' // only the program is missing
)

func (b *build) creates(kind specs.LinuxNamespaceType) bool {
	path, ok := b.namespace(kind)
	return ok && path == ""
}

func (b *build) joins(kind specs.LinuxNamespaceType) bool {
	path, ok := b.namespace(kind)
	return ok && path != ""
}

func (b *build) namespace(kind specs.LinuxNamespaceType) (string, bool) {
	if b.spec.Linux == nil {
		return "", false
	}
	for _, n := range b.spec.Linux.Namespaces {
		if n.Type == kind {
			return n.Path, true
		}
	}
	return "", false
}

var cloneFlags = map[specs.LinuxNamespaceType]uint64{
	specs.UserNamespace: unix.CLONE_NEWUSER, specs.PIDNamespace: unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET, specs.IPCNamespace: unix.CLONE_NEWIPC,
	specs.UTSNamespace: unix.CLONE_NEWUTS, specs.MountNamespace: unix.CLONE_NEWNS,
}

// laterFlags are for namespaces that the child makes itself: the cgroup
// namespace after it has joined its group, the time namespace as it only begins
// with the program.
var laterFlags = map[specs.LinuxNamespaceType]uint64{
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

func (b *build) newFlags() (flags uint64) {
	for kind, f := range cloneFlags {
		if b.creates(kind) {
			flags |= f
		}
	}
	return flags
}

// openRoot makes the root file system as a detached mount.
func (b *build) openRoot(mounts []mount.Mount) error {
	b.root = -1
	path := b.spec.Root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(b.bundle, path)
	}
	if _, ok := b.namespace(specs.MountNamespace); !ok {
		if len(mounts) > 0 {
			return invalid("a root file system to mount without a mount namespace of the container's own")
		}
		if len(b.spec.Mounts) > 0 {
			// They would be the host's.
			b.warn("no mounts are made: the container has no mount namespace of its own")
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "root file system", Path: path, Err: err}
		}
		b.root = b.own(fd)
		return nil
	}
	var fd int
	var err error
	if len(mounts) > 0 {
		fd, err = mountDetached(mounts)
	} else {
		fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			err = &os.PathError{Op: "root file system", Path: path, Err: err}
		}
	}
	if err != nil {
		return err
	}
	b.root = b.own(fd)
	a := unix.MountAttr{Propagation: unix.MS_SLAVE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &a); err != nil {
		return fmt.Errorf("propagation of the root: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &os.PathError{Op: "root file system", Path: path, Err: unix.ENOTDIR}
	}
	return nil
}

// addStart adds what a new process does before it has its file systems.
func (b *build) addStart(join *cgroup.Join) error {
	t := b.t
	none := uint64(t.Alloc(8))
	t.Add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, none, 0, 8)
	if b.scoped {
		b.addScope()
	}
	b.addCgroup(join)
	if err := b.addScore(b.spec.Process); err != nil {
		return err
	}
	if err := b.addLabels(b.spec.Process); err != nil {
		return err
	}
	t.Add("new session", unix.SYS_SETSID)
	if err := b.addJoins(); err != nil {
		return err
	}
	return nil
}

// addScore sets how readily the kernel kills the process for want of memory.
func (p *plan) addScore(proc *specs.Process) error {
	if proc == nil || proc.OOMScoreAdj == nil {
		return nil
	}
	v := *proc.OOMScoreAdj
	if v < -1000 || v > 1000 {
		return invalid("oomScoreAdj %d", v)
	}
	name := fmt.Sprintf("oom_score_adj %d", v)
	s := fmt.Sprint(v)
	open := p.t.Add(name, unix.SYS_OPENAT, atCWD, p.str("/proc/self/oom_score_adj"), unix.O_WRONLY|unix.O_CLOEXEC)
	write := p.t.Add(name, unix.SYS_WRITE, table.Result(open), p.str(s), len(s))
	p.tolerant(p.t.Add(name, unix.SYS_CLOSE, table.Result(open)))
	p.softly(open, name)
	p.softly(write, name)
	return nil
}

// joinOrder is the order in which existing namespaces are joined; the user
// namespace comes before, the pid namespace is the parent thread's matter.
var joinOrder = []specs.LinuxNamespaceType{specs.IPCNamespace, specs.UTSNamespace, specs.NetworkNamespace,
	specs.CgroupNamespace, specs.TimeNamespace, specs.MountNamespace}

// addJoins enters existing namespaces and makes new ones inside a joined user namespace.
func (b *build) addJoins() error {
	t := b.t
	if b.joins(specs.UserNamespace) {
		fd, err := b.openNamespace(specs.UserNamespace)
		if err != nil {
			return err
		}
		// The others are entered with the host's rights where possible.
		if err := b.joinAll(); err != nil {
			return err
		}
		if b.joins(specs.PIDNamespace) {
			// For the process cloned below; this one stays where its view of
			// process ids is ours.
			pids, err := b.openNamespace(specs.PIDNamespace)
			if err != nil {
				return err
			}
			t.Add("join pid namespace", unix.SYS_SETNS, pids, unix.CLONE_NEWPID)
		}
		t.Add("join user namespace", unix.SYS_SETNS, fd, unix.CLONE_NEWUSER)
		b.becomeRoot()
		b.cloneInner()
		return nil
	}
	if err := b.joinAll(); err != nil {
		return err
	}
	if b.creates(specs.TimeNamespace) {
		t.Add("new time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	}
	if b.creates(specs.UserNamespace) || len(b.spec.Linux.TimeOffsets) > 0 || len(b.spec.Linux.NetDevices) > 0 {
		b.message(stepMaps, b.sock)
	}
	b.enterTime()
	if b.creates(specs.UserNamespace) {
		b.becomeRoot()
	}
	if b.creates(specs.CgroupNamespace) {
		t.Add("new cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	return nil
}

// enterTime enters the new time namespace, once its clocks are set. Kernels before
// 6.3 don't do so by executing a program. It takes a process that shares no memory.
func (b *build) enterTime() {
	if !b.creates(specs.TimeNamespace) {
		return
	}
	t, name := b.t, "enter the time namespace"
	open := t.Add(name, unix.SYS_OPENAT, atCWD, b.str("/proc/self/ns/time_for_children"), unix.O_RDONLY|unix.O_CLOEXEC)
	t.Add(name, unix.SYS_SETNS, table.Result(open), unix.CLONE_NEWTIME)
	t.Add(name, unix.SYS_CLOSE, table.Result(open))
}

func (b *build) joinAll() error {
	for _, kind := range joinOrder {
		if !b.joins(kind) {
			continue
		}
		fd, err := b.openNamespace(kind)
		if err != nil {
			return err
		}
		flag := cloneFlags[kind] | laterFlags[kind]
		b.t.Add("join "+string(kind)+" namespace", unix.SYS_SETNS, fd, flag)
	}
	return nil
}

func (b *build) openNamespace(kind specs.LinuxNamespaceType) (int, error) {
	path, _ := b.namespace(kind)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: string(kind) + " namespace", Path: path, Err: err}
	}
	return b.own(fd), nil
}

// becomeRoot takes id 0 of a user namespace just entered.
func (b *build) becomeRoot() {
	t := b.t
	b.tolerant(t.Add("drop groups", unix.SYS_SETGROUPS, 0, 0), syscall.EPERM)
	t.Add("become group 0", unix.SYS_SETRESGID, 0, 0, 0)
	t.Add("become user 0", unix.SYS_SETRESUID, 0, 0, 0)
}

// innerArgs is struct clone_args; what stays zero has no name.
type innerArgs struct {
	flags, _, _, parentTID uint64
	_                      [7]uint64
}

// cloneInner clones once more, so that new namespaces belong to the user
// namespace that was joined. The first process waits and ends.
func (b *build) cloneInner() {
	t := b.t
	b.inner = uint64(t.Alloc(8))
	flags := b.newFlags() | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID
	if b.shared {
		flags |= unix.CLONE_VM | unix.CLONE_VFORK
	}
	args := put(b.plan, innerArgs{flags: flags, parentTID: b.inner})
	fork := t.Fork("clone inside the user namespace", args, int(unsafe.Sizeof(innerArgs{})))
	past := t.Test("", uint64(0), 0, 0)
	t.Else(fork)
	t.Add("end", unix.SYS_EXIT_GROUP, 0)
	t.Then(past)
	if b.creates(specs.TimeNamespace) {
		t.Add("new time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	}
	if len(b.spec.Linux.TimeOffsets) > 0 || len(b.spec.Linux.NetDevices) > 0 {
		b.message(stepMaps, b.sock)
	}
	b.enterTime()
	if b.creates(specs.CgroupNamespace) {
		t.Add("new cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
}

// pid is the container's first process.
func (b *build) pid() int {
	if b.inner != 0 {
		return int(uint32(b.t.Load(b.inner)))
	}
	return b.t.PID()
}

// addSystem configures the new namespaces and mounts everything.
func (b *build) addSystem() error {
	t := b.t
	if b.creates(specs.NetworkNamespace) {
		b.loopbackUp()
	}
	if b.spec.Hostname != "" {
		t.Add("host name", unix.SYS_SETHOSTNAME, b.str(b.spec.Hostname), len(b.spec.Hostname))
	}
	if b.spec.Domainname != "" {
		t.Add("domain name", unix.SYS_SETDOMAINNAME, b.str(b.spec.Domainname), len(b.spec.Domainname))
	}
	if _, ok := b.namespace(specs.MountNamespace); !ok {
		return b.addChroot()
	}
	host := unix.MountAttr{Propagation: unix.MS_SLAVE}
	if b.propagation == unix.MS_PRIVATE || b.propagation == unix.MS_UNBINDABLE {
		host.Propagation = unix.MS_PRIVATE
	}
	t.Add("keep mounts to ourselves", unix.SYS_MOUNT_SETATTR, atCWD, b.str("/"), unix.AT_RECURSIVE, put(b.plan, host), int(unsafe.Sizeof(host)))
	null := t.Add("open /dev/null", unix.SYS_OPENAT, atCWD, b.str("/dev/null"), unix.O_PATH|unix.O_CLOEXEC)
	t.Add("attach the root", unix.SYS_MOVE_MOUNT, b.root, b.str(""), atCWD, b.str("/"), unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err := b.addMounts(); err != nil {
		return err
	}
	if err := b.addDevices(); err != nil {
		return err
	}
	if b.hooked {
		b.message(stepHooks, b.sock)
	}
	b.addSysctls()
	if b.spec.Linux != nil {
		b.readonlyPaths()
		b.maskPaths(table.Result(null))
	}
	b.addWorkDir()
	for _, l := range b.late {
		b.setattr(l.name, l.mnt, false, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	b.addConsole()
	b.addPivot()
	return nil
}

// addPivot makes the container's root the root.
func (b *build) addPivot() {
	t := b.t
	t.Add("enter the root", unix.SYS_FCHDIR, b.root)
	if b.noPivot {
		t.Add("change root", unix.SYS_CHROOT, b.str("."))
	} else {
		dot := b.str(".")
		t.Add("pivot", unix.SYS_PIVOT_ROOT, dot, dot)
		t.Add("detach the host's root", unix.SYS_UMOUNT2, dot, unix.MNT_DETACH)
	}
	t.Add("enter the root", unix.SYS_CHDIR, b.str("/"))
	b.propagateRoot()
	if b.spec.Root.Readonly {
		b.setattr("make the root read-only", b.root, false, unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
}

// addChroot serves containers without a mount namespace.
func (b *build) addChroot() error {
	if b.spec.Root.Readonly || (b.spec.Linux != nil && (len(b.spec.Linux.MaskedPaths) > 0 || len(b.spec.Linux.ReadonlyPaths) > 0)) {
		return invalid("read-only or masked paths without a mount namespace of the container's own")
	}
	if b.hooked {
		b.message(stepHooks, b.sock)
	}
	b.t.Add("enter the root", unix.SYS_FCHDIR, b.root)
	b.t.Add("change root", unix.SYS_CHROOT, b.str("."))
	return nil
}

// loopbackUp brings up the one interface of a new network namespace.
func (b *build) loopbackUp() {
	t := b.t
	var req [40]byte
	copy(req[:], "lo")
	*(*uint16)(unsafe.Pointer(&req[16])) = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK
	s := t.Add("bring up loopback", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	t.Add("bring up loopback", unix.SYS_IOCTL, table.Result(s), unix.SIOCSIFFLAGS, t.Bytes(req[:]))
	t.Add("bring up loopback", unix.SYS_CLOSE, table.Result(s))
}

// addSysctls writes kernel parameters through the container's own procfs, by a
// descriptor of that very mount, so nothing in the image can redirect them.
func (b *build) addSysctls() {
	if b.spec.Linux == nil || len(b.spec.Linux.Sysctl) == 0 {
		return
	}
	dir := b.procMount("sysctl")
	for key, value := range b.spec.Linux.Sysctl {
		file := "sys/" + sysctlPath(key)
		b.writeProc("sysctl "+key, dir, file, value, false)
	}
}

// procMount is the container's procfs, or a private one if it has none.
func (b *build) procMount(name string) any {
	if b.proc == nil {
		b.proc = b.filesystem(name, "proc", "proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	}
	return b.proc
}

// sysctlPath turns "net.ipv4.ip_forward" into a path; with slashes as separators
// dots are part of names.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}
