package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultShm is the size of /dev/shm, Docker's.
const defaultShm = 64 << 20

// mounts are the default ones, with the caller's in their place or after them.
func (o *Options) mounts() []specs.Mount {
	shm := o.ShmSize
	if shm == 0 {
		shm = defaultShm
	}
	sys := []string{"nosuid", "noexec", "nodev", "ro"}
	if o.Security.Privileged {
		sys = []string{"nosuid", "noexec", "nodev", "rw"}
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
	}
	if o.IPC == Host {
		list[3] = specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
		list[4] = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	if o.CgroupMount {
		access := sys[3]
		if o.Security.WritableCgroups {
			access = "rw"
		}
		list = append(list, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: append(sys[:3:3], "relatime", access)})
	}
	for _, m := range o.Mounts {
		if path.Clean(m.Destination) == "/dev" { // the caller's own has what is below it
			list = slices.DeleteFunc(list, func(have specs.Mount) bool { return strings.HasPrefix(have.Destination, "/dev/") })
		}
	}
	for _, m := range o.Mounts {
		m.Destination = path.Clean(m.Destination)
		same := func(have specs.Mount) bool { return have.Destination == m.Destination }
		if i := slices.IndexFunc(list, same); i >= 0 {
			list[i] = m
			continue
		}
		list = append(list, m)
	}
	return list
}

// rootPropagation is how mounts of the host and the container are told to each other:
// as the mount wants that wants the most. Without it a runtime cuts all off.
func rootPropagation(list []specs.Mount) string {
	out := ""
	for _, m := range list {
		for _, o := range m.Options {
			switch {
			case o == "shared" || o == "rshared":
				return "shared"
			case o == "slave" || o == "rslave":
				out = "slave"
			}
		}
	}
	return out
}

// namespaces are all kinds but the host's ones; a user namespace is not made.
func (o *Options) namespaces() []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, ns := range []struct {
		kind  specs.LinuxNamespaceType
		value Namespace
	}{
		{specs.PIDNamespace, o.PID}, {specs.IPCNamespace, o.IPC}, {specs.UTSNamespace, o.UTS},
		{specs.NetworkNamespace, o.Network}, {specs.CgroupNamespace, o.Cgroup},
	} {
		switch ns.value {
		case Host:
		case "":
			out = append(out, specs.LinuxNamespace{Type: ns.kind})
		default:
			out = append(out, specs.LinuxNamespace{Type: ns.kind, Path: string(ns.value)})
		}
	}
	return out
}

// ParseMount reads a mount in the form that ctr and Docker use:
// type=bind,src=/a,dst=/b,options=rbind:ro. Keys have the usual synonyms;
// "ro" or "readonly" alone makes it read-only.
func ParseMount(text string) (specs.Mount, error) {
	m := specs.Mount{}
	readonly := false
	for _, f := range splitFields(text) {
		switch f.key {
		case "type":
			m.Type = f.value
		case "src", "source":
			m.Source = f.value
		case "dst", "destination", "target":
			m.Destination = f.value
		case "options":
			m.Options = append(m.Options, splitList(f.value, ':')...)
		case "ro", "readonly":
			if !slices.Contains([]string{"", "true", "1", "false", "0"}, f.value) {
				return m, fmt.Errorf("mount %q: %s=%s is neither true nor false", text, f.key, f.value)
			}
			readonly = f.value != "false" && f.value != "0"
		default:
			return m, fmt.Errorf("mount %q: unknown key %q; known are type, src, dst, options, ro", text, f.key)
		}
	}
	if m.Type == "" {
		m.Type = "bind"
	}
	if m.Type == "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
		m.Options = append(m.Options, "rbind")
	}
	if readonly {
		m.Options = append(m.Options, "ro")
	}
	switch {
	case !path.IsAbs(m.Destination):
		return m, fmt.Errorf("mount %q: dst=%q is no absolute path", text, m.Destination)
	case m.Type == "bind" && !path.IsAbs(m.Source):
		return m, fmt.Errorf("mount %q: src=%q is no absolute path", text, m.Source)
	}
	return m, nil
}
