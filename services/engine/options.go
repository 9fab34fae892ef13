package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/services/spec"
)

// options are the spec of a container but for namespaces and files that are made
// when it starts.
func options(id string, c *api.Config, h *api.HostConfig) (spec.Options, error) {
	o := spec.Options{
		ID: id, Entrypoint: c.Entrypoint, Args: c.Cmd, Env: c.Env, Cwd: c.WorkingDir, User: c.User, ExtraGroups: h.GroupAdd,
		Terminal: c.Tty, Height: h.ConsoleSize[0], Width: h.ConsoleSize[1],
		ReadonlyRootfs: h.ReadonlyRootfs, CgroupMount: true, ShmSize: h.ShmSize,
		Hostname: c.Hostname, Domainname: c.Domainname, Sysctls: h.Sysctls,
		CgroupParent: h.CgroupParent, Annotations: h.Annotations,
		Resources: resources(&h.Resources),
	}
	if o.Entrypoint == nil {
		o.Entrypoint = []string{} // the image's is in the config already
	}
	if h.OomScoreAdj != 0 {
		o.OOMScoreAdj = &h.OomScoreAdj
	}
	if h.UTSMode.IsHost() {
		o.UTS, o.Hostname, o.Domainname = spec.Host, "", ""
	}
	if h.IpcMode.IsHost() {
		o.IPC = spec.Host
	}
	if h.PidMode.IsHost() {
		o.PID = spec.Host
	}
	if h.CgroupnsMode.IsHost() {
		o.Cgroup = spec.Host
	}
	if h.NetworkMode.IsHost() {
		o.Network = spec.Host
	}
	for _, d := range h.Devices {
		o.Devices = append(o.Devices, spec.Device{Host: d.PathOnHost, Container: d.PathInContainer, Access: d.CgroupPermissions})
	}
	for _, u := range h.Ulimits {
		o.Rlimits = append(o.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Hard: uint64(u.Hard), Soft: uint64(u.Soft)})
	}
	var err error
	if o.Security, err = security(h); err != nil {
		return o, err
	}
	o.Mounts, err = mountsOf(h)
	return o, err
}

func resources(r *api.Resources) spec.Resources {
	out := spec.Resources{
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation,
		CPUs: float64(r.NanoCPUs) / 1e9, CPUQuota: r.CPUQuota, CPUPeriod: uint64(max(r.CPUPeriod, 0)),
		CPUShares: uint64(max(r.CPUShares, 0)), CpusetCPUs: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
	}
	if r.PidsLimit != nil {
		if out.PidsLimit = *r.PidsLimit; out.PidsLimit <= 0 {
			out.PidsLimit = -1
		}
	}
	return out
}

// security reads the list of options: no-new-privileges, seccomp=…, apparmor=…,
// label=disable, systempaths=unconfined.
func security(h *api.HostConfig) (spec.Security, error) {
	s := spec.Security{Privileged: h.Privileged, CapAdd: h.CapAdd, CapDrop: h.CapDrop}
	for _, text := range h.SecurityOpt {
		key, value, valued := strings.Cut(text, "=")
		if !valued {
			key, value, valued = strings.Cut(text, ":")
		}
		switch key {
		case "no-new-privileges":
			on, err := strconv.ParseBool(value)
			if valued && err != nil {
				return s, invalid("invalid --security-opt: %q", text)
			}
			s.NoNewPrivileges = !valued || on
		case "seccomp":
			if s.Seccomp = value; value == "builtin" {
				s.Seccomp = ""
			}
		case "apparmor":
			if s.AppArmor = value; value == "unconfined" {
				s.AppArmor = ""
			}
		case "systempaths":
			if value != "unconfined" {
				return s, invalid("invalid --security-opt: %q", text)
			}
			s.Unmasked = true
		case "label":
			if value != "disable" {
				return s, missing("HostConfig.SecurityOpt %q is not available yet", text)
			}
		default:
			return s, invalid("invalid --security-opt: %q", text)
		}
	}
	return s, nil
}

// mask puts the caller's own lists of masked and read-only paths into a spec.
func mask(s *specs.Spec, h *api.HostConfig) {
	if h.Privileged {
		return
	}
	if h.MaskedPaths != nil {
		s.Linux.MaskedPaths = h.MaskedPaths
	}
	if h.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = h.ReadonlyPaths
	}
}

// mountsOf are the mounts that were asked for, in the order of their targets.
func mountsOf(h *api.HostConfig) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, text := range h.Binds {
		m, err := bind(text)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, m := range h.Mounts {
		made, err := mountOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	for target, opts := range h.Tmpfs {
		if !filepath.IsAbs(target) {
			return nil, invalid("invalid tmpfs target %q: it must be an absolute path", target)
		}
		m := specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: target, Options: []string{"noexec", "nosuid", "nodev"}}
		if opts != "" {
			m.Options = append(m.Options, strings.Split(opts, ",")...)
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	for i := 1; i < len(out); i++ {
		if filepath.Clean(out[i].Destination) == filepath.Clean(out[i-1].Destination) {
			return nil, invalid("Duplicate mount point: %s", out[i].Destination)
		}
	}
	return out, nil
}

// propagations are modes of how mounts are seen on the other side.
var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// bind reads source:target[:options].
func bind(text string) (specs.Mount, error) {
	m := specs.Mount{Type: "bind"}
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" {
		return m, invalid("invalid volume specification: '%s'", text)
	}
	m.Source, m.Destination = parts[0], parts[1]
	if !filepath.IsAbs(m.Destination) || filepath.Clean(m.Destination) == "/" {
		return m, invalid("invalid volume specification: '%s': invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute and not the root", text, m.Destination)
	}
	if !filepath.IsAbs(m.Source) {
		return m, missing("HostConfig.Binds: named volume %q: volumes are not available yet", m.Source)
	}
	recursion, propagation := "rbind", "rprivate"
	if len(parts) == 3 {
		for _, o := range strings.Split(parts[2], ",") {
			switch {
			case o == "ro":
				m.Options = append(m.Options, "ro")
			case o == "rw", o == "", o == "nocopy", o == "consistent", o == "cached", o == "delegated":
			case o == "z", o == "Z": // labels of SELinux, which isn't there
			case slices.Contains(propagations, o):
				propagation = o
			default:
				return m, invalid("invalid mode: %s", parts[2])
			}
		}
	}
	m.Options = append(m.Options, recursion, propagation)
	return m, nil
}

func mountOf(m mount.Mount) (specs.Mount, error) {
	out := specs.Mount{Destination: m.Target, Source: m.Source, Type: string(m.Type)}
	bad := func(format string, args ...any) (specs.Mount, error) {
		return out, invalid("invalid mount config for type %q: %s", m.Type, fmt.Sprintf(format, args...))
	}
	if !filepath.IsAbs(m.Target) || filepath.Clean(m.Target) == "/" {
		return bad("invalid mount path: '%s' mount path must be absolute and not the root", m.Target)
	}
	switch m.Type {
	case mount.TypeBind:
		if !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
		return bindMount(out, m)
	case mount.TypeTmpfs:
		if m.Source != "" {
			return bad("field Source must not be specified")
		}
		return tmpfsMount(out, m)
	case mount.TypeVolume, mount.TypeImage, mount.TypeCluster:
		return out, missing("HostConfig.Mounts: mounts of type %q are not available yet", m.Type)
	}
	return bad("mount type unknown")
}

func bindMount(out specs.Mount, m mount.Mount) (specs.Mount, error) {
	recursion, propagation := "rbind", "rprivate"
	if b := m.BindOptions; b != nil {
		if b.NonRecursive {
			recursion = "bind"
		}
		if b.Propagation != "" {
			propagation = string(b.Propagation)
		}
		if !slices.Contains(propagations, propagation) {
			return out, invalid("invalid propagation %q", propagation)
		}
		if b.ReadOnlyForceRecursive {
			return out, missing("HostConfig.Mounts: BindOptions.ReadOnlyForceRecursive is not available yet")
		}
	}
	out.Options = []string{recursion, propagation}
	if m.ReadOnly {
		out.Options = append(out.Options, "ro")
	}
	return out, nil
}

func tmpfsMount(out specs.Mount, m mount.Mount) (specs.Mount, error) {
	out.Source, out.Options = "tmpfs", []string{"noexec", "nosuid", "nodev"}
	if t := m.TmpfsOptions; t != nil {
		if len(t.Options) > 0 {
			return out, missing("HostConfig.Mounts: TmpfsOptions.Options is not available yet")
		}
		if t.SizeBytes > 0 {
			out.Options = append(out.Options, "size="+strconv.FormatInt(t.SizeBytes, 10))
		}
		if t.Mode != 0 {
			out.Options = append(out.Options, "mode="+strconv.FormatUint(uint64(t.Mode), 8))
		}
	}
	if m.ReadOnly {
		out.Options = append(out.Options, "ro")
	}
	return out, nil
}
