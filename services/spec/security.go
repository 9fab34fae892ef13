package spec

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/suggest"
)

// defaultCaps are the capabilities that Docker and containerd give a container.
var defaultCaps = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// capNames are Linux's capabilities, by their number (linux/capability.h).
var capNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// maskedPaths and readonlyPaths are the parts of /proc and /sys that tell about
// or change the host; the same as Docker's and containerd's.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// HiddenPaths are the paths that containers can't read, and those they can't write.
func HiddenPaths() (masked, readOnly []string) {
	return slices.Sorted(slices.Values(maskedPaths)), slices.Sorted(slices.Values(readonlyPaths))
}

// knownCaps are the capabilities that the running kernel has.
var knownCaps = sync.OnceValue(func() []string {
	data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return capNames
	}
	last, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || last < 0 || last >= len(capNames) {
		return capNames
	}
	return capNames[:last+1]
})

// capabilities are the sets of the process. The inheritable and the ambient
// ones stay empty: a set-user-ID or a non-root program would inherit them.
func (s *Security) capabilities() (*specs.LinuxCapabilities, error) {
	if s.Privileged {
		all := slices.Clone(knownCaps())
		return &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}, nil
	}
	caps := slices.Clone(defaultCaps)
	add, err1 := normalCaps(s.CapAdd)
	drop, err2 := normalCaps(s.CapDrop)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(add, "ALL"):
		caps = slices.Clone(knownCaps())
	case slices.Contains(drop, "ALL"):
		caps = nil
	}
	for _, c := range drop {
		caps = slices.DeleteFunc(caps, func(have string) bool { return have == c })
	}
	for _, c := range add {
		if c != "ALL" && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}, nil
}

func normalCaps(names []string) ([]string, error) {
	var out []string
	var errs []error
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if c != "ALL" && !slices.Contains(capNames, c) {
			err := fmt.Errorf("unknown capability %q", n)
			if hint := suggest.Closest(c, capNames); hint != "" {
				err = fmt.Errorf("unknown capability %q (did you mean %q?)", n, hint)
			}
			errs = append(errs, err)
			continue
		}
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// profiles caches seccomp profiles by text and capabilities: making one takes
// longer than the rest of a spec.
var profiles = struct {
	mu sync.Mutex // guards byKey
	// byKey is emptied when it is full; the default set of capabilities is by
	// far the most frequent.
	byKey map[string]*specs.LinuxSeccomp
}{byKey: map[string]*specs.LinuxSeccomp{}}

const maxProfiles = 64

// seccomp returns the profile for the capabilities in rs, nil for none.
func (s *Security) seccomp(rs *specs.Spec) (*specs.LinuxSeccomp, error) {
	if s.Seccomp == "unconfined" || s.Privileged && s.Seccomp == "" {
		return nil, nil
	}
	key := s.Seccomp + "\x00" + strings.Join(slices.Sorted(slices.Values(rs.Process.Capabilities.Bounding)), ",")
	profiles.mu.Lock()
	defer profiles.mu.Unlock()
	if p, ok := profiles.byKey[key]; ok {
		return p, nil
	}
	var p *specs.LinuxSeccomp
	var err error
	if s.Seccomp == "" {
		p, err = seccomp.GetDefaultProfile(rs)
	} else {
		p, err = seccomp.LoadProfile(s.Seccomp, rs)
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if len(profiles.byKey) >= maxProfiles {
		clear(profiles.byKey)
	}
	profiles.byKey[key] = p
	return p, nil
}
