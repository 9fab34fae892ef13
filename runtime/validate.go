package runtime

import (
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Validate checks a configuration for everything that can be known without
// touching the host, and reports all mistakes at once.
func Validate(s *specs.Spec) error {
	var errs []error
	for _, check := range checks {
		errs = append(errs, check(s))
	}
	return errors.Join(errs...)
}

// checks are tried in this order; each sees a spec whose Root and Linux may be nil.
var checks = []func(*specs.Spec) error{
	checkVersion, checkRoot, checkProcess, checkUser, checkHostname, checkMounts,
	checkNamespaces, checkMappings, checkSysctl, checkPaths, checkDevices,
	checkPropagation, checkTime, checkRdt, checkHooks,
}

// supported is the newest version of the specification this package knows.
const supported = "1."

func checkVersion(s *specs.Spec) error {
	if s.Version != "" && !strings.HasPrefix(s.Version, supported) {
		return invalid("ociVersion %q: only %sx is known", s.Version, supported)
	}
	return nil
}

func checkRoot(s *specs.Spec) error {
	if s.Root == nil || s.Root.Path == "" {
		return invalid("root.path is missing")
	}
	return nil
}

func checkProcess(s *specs.Spec) error {
	if s.Process == nil {
		return nil // Start will want one
	}
	return checkProgram(s.Process)
}

func checkProgram(p *specs.Process) error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return invalid("process.args is empty")
	}
	if !path.IsAbs(p.Cwd) {
		return invalid("process.cwd %q is not absolute", p.Cwd)
	}
	if err := checkCapabilities(p.Capabilities); err != nil {
		return err
	}
	for _, list := range [][]string{p.Args, p.Env, {p.Cwd, p.ApparmorProfile, p.SelinuxLabel}} {
		for _, v := range list {
			if strings.ContainsRune(v, 0) {
				return invalid("process: a zero byte in %q", v)
			}
		}
	}
	return nil
}

// noID is -1 as the kernel's id type: it means "leave it as it is", which would
// leave a program root.
const noID = ^uint32(0)

func checkUser(s *specs.Spec) error {
	if s.Process == nil {
		return nil
	}
	return checkIDs(s.Process.User)
}

func checkIDs(u specs.User) error {
	if u.UID == noID || u.GID == noID || slices.Contains(u.AdditionalGids, noID) {
		return invalid("user or group id %d", noID)
	}
	if len(u.AdditionalGids) > 65536 {
		return invalid("%d additional groups", len(u.AdditionalGids))
	}
	return nil
}

func has(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

func creates(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind && n.Path == "" })
}

func checkHostname(s *specs.Spec) error {
	if (s.Hostname != "" || s.Domainname != "") && !has(s, specs.UTSNamespace) {
		return invalid("a hostname without a uts namespace of the container's own")
	}
	return nil
}

func checkMounts(s *specs.Spec) error {
	for _, m := range s.Mounts {
		if m.Destination == "" || strings.ContainsRune(m.Destination+m.Source, 0) {
			return invalid("mount destination %q", m.Destination)
		}
		if m.Type == "" && !isBind(m) {
			return invalid("mount at %s has no type", m.Destination)
		}
		if isBind(m) && m.Source == "" {
			return invalid("bind mount at %s has no source", m.Destination)
		}
		if err := checkProcMount(m); err != nil {
			return err
		}
		if len(m.UIDMappings) > 0 != (len(m.GIDMappings) > 0) {
			return invalid("mount at %s maps only users or only groups", m.Destination)
		}
	}
	return nil
}

// belowProc are the files of /proc that may be mounted over, as they are by lxcfs.
var belowProc = []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps",
	"/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid",
	"/proc/sys/crypto/fips_enabled"}

// checkProcMount keeps volumes from pretending to be procfs.
func checkProcMount(m specs.Mount) error {
	at := path.Clean("/" + m.Destination)
	switch {
	case at != "/proc" && !strings.HasPrefix(at, "/proc/"):
		return nil
	case m.Type == "proc" && at == "/proc", slices.Contains(belowProc, at):
		return nil
	case isBind(m) && at == "/proc" && filepath.Clean(m.Source) == "/proc":
		return nil
	case isBind(m) && at == "/proc" && strings.HasPrefix(filepath.Clean(m.Source), "/proc"):
		return nil
	}
	return invalid("%s must not be mounted at %s", m.Type+m.Source, at)
}

func checkNamespaces(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, n := range s.Linux.Namespaces {
		if cloneFlags[n.Type]|laterFlags[n.Type] == 0 {
			return invalid("namespace type %q", n.Type)
		}
		if seen[n.Type] {
			return invalid("namespace %q twice", n.Type)
		}
		seen[n.Type] = true
		if n.Path != "" && !filepath.IsAbs(n.Path) {
			return invalid("namespace path %q is not absolute", n.Path)
		}
	}
	return nil
}

func checkMappings(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	l := s.Linux
	switch {
	case creates(s, specs.UserNamespace) && (len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0):
		return invalid("a new user namespace without id mappings")
	case !has(s, specs.UserNamespace) && len(l.UIDMappings)+len(l.GIDMappings) > 0:
		return invalid("id mappings without a user namespace")
	}
	for _, list := range [][]specs.LinuxIDMapping{l.UIDMappings, l.GIDMappings} {
		if len(list) > maxMappings {
			return invalid("%d id mappings, the kernel takes %d", len(list), maxMappings)
		}
		for _, m := range list {
			if m.Size == 0 || uint64(m.ContainerID)+uint64(m.Size) > 1<<32 || uint64(m.HostID)+uint64(m.Size) > 1<<32 {
				return invalid("id mapping %+v", m)
			}
		}
	}
	return nil
}

// ipcSysctls belong to the ipc namespace.
var ipcSysctls = []string{"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
	"kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"}

// checkSysctl lets through only parameters of namespaces the container has for itself.
func checkSysctl(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	for key := range s.Linux.Sysctl {
		file := sysctlPath(key)
		var kind specs.LinuxNamespaceType
		switch {
		case slices.Contains(strings.Split(file, "/"), ".."), strings.ContainsRune(file, 0):
			return invalid("sysctl %q", key)
		case strings.HasPrefix(file, "fs/mqueue/"), slices.Contains(ipcSysctls, file):
			kind = specs.IPCNamespace
		case strings.HasPrefix(file, "net/"):
			kind = specs.NetworkNamespace
		case file == "kernel/domainname":
			kind = specs.UTSNamespace
		case file == "kernel/hostname":
			return invalid("sysctl %q: set the hostname instead", key)
		case strings.HasPrefix(file, "user/"):
			kind = specs.UserNamespace
		default:
			return invalid("sysctl %q is not the container's own", key)
		}
		if !has(s, kind) {
			return invalid("sysctl %q without a %s namespace of the container's own", key, kind)
		}
	}
	return nil
}

func checkPaths(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	for _, list := range [][]string{s.Linux.MaskedPaths, s.Linux.ReadonlyPaths} {
		for _, p := range list {
			if !path.IsAbs(p) || strings.ContainsRune(p, 0) {
				return invalid("masked or read-only path %q is not absolute", p)
			}
		}
	}
	if strings.ContainsRune(s.Linux.CgroupsPath, 0) || slices.Contains(strings.Split(s.Linux.CgroupsPath, "/"), "..") {
		return invalid("cgroupsPath %q", s.Linux.CgroupsPath)
	}
	return nil
}

func checkDevices(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	for _, d := range s.Linux.Devices {
		if d.Path == "" || path.Clean("/"+d.Path) == "/" || strings.ContainsRune(d.Path, 0) {
			return invalid("device path %q", d.Path)
		}
		if !slices.Contains([]string{"c", "u", "b", "p"}, d.Type) {
			return invalid("device %s of type %q", d.Path, d.Type)
		}
	}
	return nil
}

func checkPropagation(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	_, err := rootPropagation(s.Linux.RootfsPropagation)
	return err
}

var clocks = map[string]int{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME}

func checkTime(s *specs.Spec) error {
	if s.Linux == nil || len(s.Linux.TimeOffsets) == 0 {
		return nil
	}
	if !creates(s, specs.TimeNamespace) {
		return invalid("time offsets without a new time namespace")
	}
	for name := range s.Linux.TimeOffsets {
		if _, ok := clocks[name]; !ok {
			return invalid("time offset of clock %q", name)
		}
	}
	return nil
}

func checkRdt(s *specs.Spec) error {
	if s.Linux != nil && s.Linux.IntelRdt != nil {
		return unsupported("Intel RDT")
	}
	return nil
}

func checkHooks(s *specs.Spec) error {
	if s.Hooks == nil {
		return nil
	}
	h := s.Hooks
	for _, list := range [][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} {
		for _, hook := range list {
			if !filepath.IsAbs(hook.Path) {
				return invalid("hook path %q is not absolute", hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return invalid("hook timeout %d", *hook.Timeout)
			}
		}
	}
	return nil
}
