package engine

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what is told of the machine.
type Host struct {
	Name, OS, Machine string
	CgroupVersion     string
	Cgroups           string // who makes control groups: cgroupfs, or none
	Memory            uint64 // bytes
	SwapLimit         bool
	Limits            bool // containers can be limited
	Forwarding        bool
	Snapshotter       string
	// Security are the ways by which containers are kept apart, in Docker's words.
	Security []string
}

// Host describes the machine and what new containers use of it.
func (e *Engine) Host(ctx context.Context) Host {
	h := Host{CgroupVersion: "1", Memory: memoryTotal(), OS: "Linux", Snapshotter: e.Snapshotter(e.in(ctx))}
	h.Name, _ = os.Hostname()
	h.Security = []string{"name=seccomp,profile=builtin"}
	if e.users != nil {
		h.Security = append(h.Security, "name=userns")
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Machine = string(bytes.TrimRight(u.Machine[:], "\x00"))
	}
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		h.CgroupVersion = "2"
	}
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	h.SwapLimit = h.CgroupVersion == "2" || err == nil
	data, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	h.Forwarding = strings.TrimSpace(string(data)) == "1"
	release, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(release)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if name, err := strconv.Unquote(v); err == nil {
				h.OS = name
			}
		}
	}
	if e.Rootless {
		h.Security = append(h.Security, "name=rootless")
	}
	if h.Cgroups = "cgroupfs"; e.Unlimited {
		h.Cgroups = "none"
	}
	h.Limits, h.SwapLimit = !e.Unlimited, h.SwapLimit && !e.Unlimited
	return h
}
