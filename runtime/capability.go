package runtime

import (
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilityNames in the kernel's order.
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

var capabilityNumbers = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, len(capabilityNames))
	for i, n := range capabilityNames {
		m[n] = i
	}
	return m
})

// CapabilityNames lists the capabilities this runtime knows.
func CapabilityNames() []string { return append([]string(nil), capabilityNames...) }

// capabilitySets are the five sets as bit masks.
type capabilitySets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// checkCapabilities refuses names that the kernel has no number for.
func checkCapabilities(c *specs.LinuxCapabilities) error {
	if c == nil {
		return nil
	}
	for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
		for _, n := range set {
			if _, ok := capabilityNumbers()[n]; !ok {
				return invalid("capability %q", n)
			}
		}
	}
	return nil
}

// parseCapabilities translates names; unobtainable ones are warned of.
func parseCapabilities(c *specs.LinuxCapabilities) (s capabilitySets, warnings []string) {
	if c == nil {
		return s, nil
	}
	have := ownBounding()
	unknown := map[string]bool{}
	bits := func(names []string) (v uint64) {
		for _, n := range names {
			i, ok := capabilityNumbers()[n]
			if (!ok || have&(1<<i) == 0) && !unknown[n] {
				unknown[n] = true
				warnings = append(warnings, "capability "+n+" is not available")
			}
			if ok {
				v |= 1 << i & have
			}
		}
		return v
	}
	s = capabilitySets{bits(c.Bounding), bits(c.Effective), bits(c.Permitted), bits(c.Inheritable), bits(c.Ambient)}
	s.effective &= s.permitted
	s.ambient &= s.permitted & s.inheritable
	return s, warnings
}

// ownBounding is what this process may hand on.
var ownBounding = sync.OnceValue(func() uint64 {
	var v uint64
	for i := range capabilityNames {
		if r, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && r == 1 {
			v |= 1 << i
		}
	}
	return v
})
