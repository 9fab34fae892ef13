package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/seccomp"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// program is the part of a plan that turns a process, already in its
// namespaces, into the one that the configuration asks for.
type program struct {
	proc        *specs.Process
	stdio       [3]*os.File
	extra       []*os.File
	seccomp     *seccomp.Program
	keyring     string // name of a new session keyring, or empty
	host        func(uid int) int
	umask       uint32
	newUser     bool // in a user namespace, where ids may be unmapped
	personality *uint64
	policy      *memoryPolicy
}

// lookup remembers how the program is searched for.
type lookup struct {
	name string
	last table.Ref // the operation whose error means "not found"
}

// place is where descriptors that are needed late live: above the program's own.
func (p *plan) place(fd, lowest int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lowest)
	if err != nil {
		return -1, fmt.Errorf("duplicate a descriptor: %w", err)
	}
	return p.own(n), nil
}

// addStdio gives the program its descriptors and closes everything else but keep.
// From here on no descriptor of the host is open in the process, so that no path
// below /proc/self/fd leads out.
func (p *plan) addStdio(g *program, keep ...int) error {
	t := p.t
	lowest := 3 + len(g.extra)
	for i, f := range g.stdio {
		var fd any
		switch {
		case p.terminal != nil:
			fd = p.terminal
		case f != nil:
			n, err := p.place(int(f.Fd()), lowest)
			if err != nil {
				return err
			}
			if err := p.giveStdio(n, g); err != nil {
				return err
			}
			fd = n
		default:
			null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			p.files = append(p.files, null)
			if fd, err = p.place(int(null.Fd()), lowest); err != nil {
				return err
			}
		}
		t.Add("standard descriptors", unix.SYS_DUP3, fd, i, 0)
	}
	for i, f := range g.extra {
		n, err := p.place(int(f.Fd()), lowest)
		if err != nil {
			return err
		}
		t.Add("extra descriptors", unix.SYS_DUP3, n, 3+i, 0)
	}
	if p.terminal != nil {
		t.Add("controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
		p.tolerant(t.Add("owner of the terminal", unix.SYS_FCHOWN, 0, g.proc.User.UID, ^uint64(0)))
	}
	slices.Sort(keep)
	from := lowest
	for _, k := range append(keep, 1<<31-1) {
		if k > from {
			t.Add("close descriptors", unix.SYS_CLOSE_RANGE, from, k-1, 0)
		}
		from = k + 1
	}
	return nil
}

// giveStdio makes the program's user the owner of what it writes to.
func (p *plan) giveStdio(fd int, g *program) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("standard descriptor: %w", err)
	}
	uid := g.host(int(g.proc.User.UID))
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	if null || uid < 0 || int(st.Uid) == uid {
		return nil
	}
	err := unix.Fchown(fd, uid, int(st.Gid))
	if err == unix.EINVAL || err == unix.EPERM || err == unix.EROFS {
		return nil // not ours to give
	}
	return err
}

// addProgram adds everything from limits to the lookup of the program. The
// process then is complete but for the seccomp filter and execve.
func (p *plan) addProgram(g *program) error {
	t := p.t
	proc := g.proc
	if err := p.addScheduling(g); err != nil {
		return err
	}
	if err := p.addLimits(proc.Rlimits); err != nil {
		return err
	}
	if g.keyring != "" {
		p.softly(t.Add("session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, p.str(g.keyring)), "session keyring")
	}
	cwd := proc.Cwd
	if cwd == "" {
		cwd = "/"
	}
	early := p.tolerant(t.Add("enter the working directory "+cwd, unix.SYS_CHDIR, p.str(cwd)), syscall.EACCES)
	entered := uint64(t.Alloc(8))
	t.Copy(uint64(1), entered)
	t.Else(early)
	p.addUser(g)
	again := t.Test("", table.At(entered), 1, 0)
	t.Add("enter the working directory "+cwd, unix.SYS_CHDIR, p.str(cwd))
	t.Else(again)
	// A directory that is not below our root has no path that starts with "/".
	buf := uint64(t.Alloc(unix.PathMax))
	t.Add("working directory "+cwd, unix.SYS_GETCWD, buf, unix.PathMax)
	inside := t.Test("", table.At(buf), 0xff, '/')
	past := t.Test("", uint64(0), 0, 0)
	t.Else(inside)
	t.Fail("working directory "+cwd+" is outside of the container", syscall.EACCES)
	t.Then(past)
	p.addCapabilities(g)
	if proc.NoNewPrivileges {
		t.Add("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	p.addLookup(proc)
	return nil
}

// addUser becomes the program's user.
func (p *plan) addUser(g *program) {
	t := p.t
	u := g.proc.User
	umask := g.umask
	if u.Umask != nil {
		umask = *u.Umask
	}
	t.Add("umask", unix.SYS_UMASK, umask)
	t.Add("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	groups := make([]byte, 0, 4*len(u.AdditionalGids))
	for _, gid := range u.AdditionalGids {
		groups = binary.NativeEndian.AppendUint32(groups, gid)
	}
	set := t.Add("additional groups", unix.SYS_SETGROUPS, len(u.AdditionalGids), t.Bytes(groups))
	if g.newUser && len(u.AdditionalGids) == 0 {
		p.tolerant(set, syscall.EPERM)
	}
	gid, uid := uint64(u.GID), uint64(u.UID)
	t.Add(fmt.Sprintf("become group %d", gid), unix.SYS_SETRESGID, gid, gid, gid)
	// The bounding set can only shrink with capabilities that user 0 has still.
	p.addBounding(g)
	t.Add(fmt.Sprintf("become user %d", uid), unix.SYS_SETRESUID, uid, uid, uid)
}

func (p *plan) addBounding(g *program) {
	sets, warnings := parseCapabilities(g.proc.Capabilities)
	p.warnings = append(p.warnings, warnings...)
	for i := range capabilityNames {
		if sets.bounding&(1<<i) == 0 {
			p.tolerant(p.t.Add("bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, i, 0, 0, 0), syscall.EINVAL)
		}
	}
}

// addCapabilities sets the capabilities. A seccomp filter without
// no_new_privs needs CAP_SYS_ADMIN to load; it is kept until execve, which works
// the sets out anew.
func (p *plan) addCapabilities(g *program) {
	t := p.t
	sets, _ := parseCapabilities(g.proc.Capabilities)
	if g.seccomp != nil && !g.proc.NoNewPrivileges {
		sets.permitted |= 1 << unix.CAP_SYS_ADMIN
		sets.effective |= 1 << unix.CAP_SYS_ADMIN
	}
	header := put(p, unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3})
	data := put(p, [2]unix.CapUserData{
		{Effective: uint32(sets.effective), Permitted: uint32(sets.permitted), Inheritable: uint32(sets.inheritable)},
		{Effective: uint32(sets.effective >> 32), Permitted: uint32(sets.permitted >> 32), Inheritable: uint32(sets.inheritable >> 32)},
	})
	t.Add("capabilities", unix.SYS_CAPSET, header, data)
	p.tolerant(t.Add("ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
	for i, name := range capabilityNames {
		if sets.ambient&(1<<i) != 0 {
			p.softly(t.Add("ambient "+name, unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i, 0, 0), "ambient capability "+name)
		}
	}
}

var limits = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4,
	"RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
	"RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13,
	"RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

// addLimits sets resource limits; one that may not be raised stays as inherited.
func (p *plan) addLimits(list []specs.POSIXRlimit) error {
	for _, l := range list {
		n, ok := limits[l.Type]
		if !ok {
			return invalid("rlimit %q", l.Type)
		}
		at := put(p, unix.Rlimit{Cur: l.Soft, Max: l.Hard})
		name := fmt.Sprintf("%s %d:%d", l.Type, l.Soft, l.Hard)
		r := p.tolerant(p.t.Add(name, unix.SYS_PRLIMIT64, 0, n, at, 0), syscall.EPERM)
		p.soft = append(p.soft, softStep{r, name})
	}
	return nil
}

// maxPathEntries bounds the directories of PATH that are searched.
const maxPathEntries = 128

// addLookup finds the program as its user would, so that a missing one is
// reported before the container counts as created.
func (p *plan) addLookup(proc *specs.Process) {
	t := p.t
	name := proc.Args[0]
	word := uint64(t.Alloc(8))
	p.lookup.name = name
	access := func(file string) table.Ref {
		return t.Add("look up "+name, unix.SYS_FACCESSAT2, atCWD, p.str(file), unix.X_OK, unix.AT_EACCESS)
	}
	if strings.Contains(name, "/") {
		t.Copy(p.str(name), word)
		p.lookup.last = access(name)
	} else {
		var ends []table.Ref
		for _, dir := range searchPath(proc.Env) {
			file := path.Join(dir, name)
			if dir == "" || !strings.HasPrefix(dir, "/") {
				file = "./" + path.Join(dir, name)
			}
			miss := p.tolerant(access(file))
			isDir := p.tolerant(t.Add("look up "+name, unix.SYS_FACCESSAT2, atCWD, p.str(file+"/."), unix.F_OK, 0))
			skip := t.Test("", uint64(0), 0, 0)
			t.Else(isDir)
			t.Copy(p.str(file), word)
			ends = append(ends, t.Test("", uint64(0), 0, 0))
			t.Else(miss)
			t.Then(skip)
		}
		p.lookup.last = t.Fail("look up "+name, syscall.ENOENT)
		for _, e := range ends {
			t.Then(e)
		}
	}
	p.found = word
}

func searchPath(env []string) []string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, "PATH="); ok && v != "" {
			dirs := strings.Split(v, ":")
			return dirs[:min(len(dirs), maxPathEntries)]
		}
	}
	return nil
}

// addExec loads the filter and executes the program.
func (p *plan) addExec(g *program) {
	t := p.t
	argv, envp := t.Strings(g.proc.Args), t.Strings(g.proc.Env)
	if f := g.seccomp; f != nil {
		code := t.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(&f.Instructions[0])), 8*len(f.Instructions)))
		prog := put(p, [2]uint64{uint64(len(f.Instructions)), code})
		p.listener = t.Add("seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uint64(f.Flags), prog)
		if f.Notifies() {
			p.loaded = uint64(t.Alloc(8))
			t.Spin(p.loaded)
		}
	}
	p.execute = t.Add("execute "+g.proc.Args[0], unix.SYS_EXECVE, table.At(p.found), argv, envp)
}

// explain turns an error of the walk into what a person should read.
func (p *plan) explain(err error) error {
	var step *table.StepError
	if !errors.As(err, &step) {
		return err
	}
	if step.Op != p.lookup.last && step.Op != p.execute {
		return err
	}
	name := p.lookup.name
	switch step.Errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		text := fmt.Errorf("exec: %q: executable file not found in $PATH", name)
		if strings.Contains(name, "/") {
			text = fmt.Errorf("exec: %q: stat %s: no such file or directory", name, name)
		}
		return classed{text, ErrCommandNotFound}
	case syscall.EACCES, syscall.EPERM:
		return classed{fmt.Errorf("exec: %q: permission denied", name), ErrCommandNotExecutable}
	case syscall.ENOEXEC:
		return classed{fmt.Errorf("exec %s: exec format error", name), ErrCommandNotExecutable}
	}
	return classed{fmt.Errorf("exec %s: %w", name, step.Errno), ErrCommandNotExecutable}
}

// textSize is what the arguments, environment and filter need in the table
// beyond what an arena has room for anyway.
func (g *program) textSize() int {
	n := 0
	for _, list := range [][]string{g.proc.Args, g.proc.Env} {
		for _, s := range list {
			n += len(s) + 16
		}
	}
	if g.seccomp != nil {
		n += 8 * len(g.seccomp.Instructions)
	}
	const free = 256 << 10
	if n < free {
		return 0
	}
	return n
}

// withHome adds HOME from the container's user database, if it is missing.
func withHome(proc *specs.Process, root int) *specs.Process {
	for _, e := range proc.Env {
		if strings.HasPrefix(e, "HOME=") {
			return proc
		}
	}
	c := *proc
	c.Env = append(proc.Env[:len(proc.Env):len(proc.Env)], "HOME="+homeOf(root, proc.User.UID))
	return &c
}

// maxPasswd bounds what is read of a container's /etc/passwd.
const maxPasswd = 1 << 20

func homeOf(root int, uid uint32) string {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: inRoot}
	fd, err := unix.Openat2(root, clean("/etc/passwd"), &how)
	if err != nil {
		return "/"
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxPasswd {
		return "/"
	}
	b := make([]byte, st.Size)
	n, _ := unix.Read(fd, b)
	for line := range strings.Lines(string(b[:max(n, 0)])) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 6 || f[5] == "" {
			continue
		}
		if id, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(id) == uid {
			return f[5]
		}
	}
	return "/"
}
