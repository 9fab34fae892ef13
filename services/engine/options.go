package engine

import (
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
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
	o.Resources.PidsLimit = max(o.Resources.PidsLimit, 0) // a new group is unbounded, and crun can't say so
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
	bad := func(text string, valued bool) error {
		if valued {
			return invalid("invalid --security-opt 2: %q", text)
		}
		return invalid("invalid --security-opt 1: %q", text)
	}
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
				return s, bad(text, valued)
			}
			s.NoNewPrivileges = !valued || on
		case "writable-cgroups":
			if valued && value != "true" && value != "false" {
				return s, bad(text, valued)
			}
			s.WritableCgroups = !valued || value == "true"
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
				return s, bad(text, valued)
			}
			s.Unmasked = true
		case "label":
			if value != "disable" {
				return s, missing("HostConfig.SecurityOpt %q is not available yet", text)
			}
		default:
			return s, bad(text, valued)
		}
	}
	return s, nil
}

// MaskedPaths are the paths that containers can't read, and those they can't write,
// if nobody says otherwise.
func MaskedPaths() (masked, readOnly []string) { return spec.HiddenPaths() }

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
