package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// cpuPeriod is the length of a scheduling period in microseconds, the kernel's
// default.
const cpuPeriod = 100_000

// Bounds of quotas and periods, in microseconds, the kernel's.
const (
	minQuota  = 1000
	maxPeriod = 1_000_000
)

// minMemory is the least memory limit: below it no process can start.
const minMemory = 512 << 10

// Resources bound what a container uses. Zero values set no bound.
type Resources struct {
	// Memory is the limit in bytes.
	Memory int64
	// MemorySwap is the limit of memory and swap together in bytes; -1 is
	// unbounded.
	MemorySwap int64
	// MemoryReservation is what the container keeps under pressure, in bytes.
	MemoryReservation int64
	// CPUs is the number of processors it may use; it can be a fraction.
	CPUs float64
	// CPUQuota is how many microseconds of processors it may use in each CPUPeriod,
	// instead of CPUs; -1 is unbounded, and a period of 0 the kernel's default.
	CPUQuota  int64
	CPUPeriod uint64
	// CPUShares is its weight among others, 1024 being normal.
	CPUShares uint64
	// CpusetCPUs and CpusetMems pin it to processors and nodes, such as "0-3".
	CpusetCPUs, CpusetMems string
	// PidsLimit bounds processes and threads; -1 is unbounded.
	PidsLimit int64
	// BlkioWeight is its weight in I/O, from 10 to 1000.
	BlkioWeight uint16
	// HugePages bounds huge pages by their size, such as "2MB", in bytes.
	HugePages map[string]uint64
	// Unified sets cgroup v2 files by name.
	Unified map[string]string
}

func (r *Resources) validate() error {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory, "memory limit %d is below %d bytes", r.Memory, minMemory)
	check(r.MemorySwap < -1, "memory and swap limit %d is negative", r.MemorySwap)
	check(r.MemorySwap > 0 && r.Memory == 0, "a limit of memory and swap needs one of memory")
	check(r.MemorySwap > 0 && r.MemorySwap < r.Memory, "limit of memory and swap %d is below that of memory, %d", r.MemorySwap, r.Memory)
	check(r.MemoryReservation < 0 || r.Memory > 0 && r.MemoryReservation > r.Memory, "memory reservation %d is above the limit", r.MemoryReservation)
	check(r.CPUs < 0 || r.CPUs > 0 && r.CPUs < 0.01 || r.CPUs > 1<<20 || r.CPUs != r.CPUs, "number of processors %v is out of range", r.CPUs)
	check(r.CPUs != 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0), "a number of processors and a quota or period are given at once")
	check(r.CPUQuota < -1 || r.CPUQuota > 0 && r.CPUQuota < minQuota, "processor quota %d is below %d microseconds", r.CPUQuota, minQuota)
	check(r.CPUPeriod > 0 && (r.CPUPeriod < minQuota || r.CPUPeriod > maxPeriod), "processor period %d is not between %d and %d microseconds", r.CPUPeriod, minQuota, maxPeriod)
	check(r.PidsLimit < -1, "limit of processes %d is below -1", r.PidsLimit)
	check(r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000), "I/O weight %d is not between 10 and 1000", r.BlkioWeight)
	for key := range r.Unified {
		check(strings.Contains(key, "/") || !strings.Contains(key, "."), "cgroup file %q is no name such as memory.high", key)
	}
	return errors.Join(errs...)
}

func (r *Resources) spec() *specs.LinuxResources {
	out := &specs.LinuxResources{Unified: r.Unified}
	if r.Memory != 0 || r.MemorySwap != 0 || r.MemoryReservation != 0 {
		out.Memory = &specs.LinuxMemory{Limit: some(r.Memory), Swap: some(r.MemorySwap), Reservation: some(r.MemoryReservation)}
	}
	if r.CPUs != 0 || r.CPUQuota != 0 || r.CPUPeriod != 0 || r.CPUShares != 0 || r.CpusetCPUs != "" || r.CpusetMems != "" {
		out.CPU = &specs.LinuxCPU{Shares: some(r.CPUShares), Cpus: r.CpusetCPUs, Mems: r.CpusetMems}
	}
	if r.CPUQuota != 0 || r.CPUPeriod != 0 {
		out.CPU.Quota, out.CPU.Period = some(r.CPUQuota), some(r.CPUPeriod)
	}
	if r.CPUs != 0 {
		out.CPU.Quota, out.CPU.Period = some(int64(r.CPUs*cpuPeriod)), some(uint64(cpuPeriod))
	}
	if r.PidsLimit != 0 {
		out.Pids = &specs.LinuxPids{Limit: some(r.PidsLimit)}
	}
	if r.BlkioWeight != 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: some(r.BlkioWeight)}
	}
	for size, limit := range r.HugePages {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: limit})
	}
	slices.SortFunc(out.HugepageLimits, func(a, b specs.LinuxHugepageLimit) int { return strings.Compare(a.Pagesize, b.Pagesize) })
	return out
}

// some points to v, nil if v is zero.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// Device is a device of the host that the container gets.
type Device struct {
	// Host is its path on the host, a device or a folder of devices.
	Host string
	// Container is its path in the container, Host if empty.
	Container string
	// Access is what may be done with it, of r, w and m; "rwm" if empty.
	Access string
}

// ParseDevice reads host[:container][:access].
func ParseDevice(text string) (Device, error) {
	parts := strings.Split(text, ":")
	d := Device{Host: parts[0], Access: "rwm"}
	if n := len(parts); n > 1 && !path.IsAbs(parts[n-1]) {
		d.Access = parts[n-1]
		parts = parts[:n-1]
	}
	if len(parts) > 1 {
		d.Container = parts[1]
	}
	if len(parts) > 2 || !path.IsAbs(d.Host) || d.Container != "" && !path.IsAbs(d.Container) ||
		d.Access == "" || strings.Trim(d.Access, "rwm") != "" {
		return d, fmt.Errorf("device %q is not of the form /host[:/container][:rwm]", text)
	}
	return d, nil
}

// devices adds the devices and the rules that let them be used. Without any,
// all is denied that the runtime doesn't allow by itself (null, zero, random …).
func (o *Options) devices(l *specs.Linux) error {
	if o.Security.Privileged {
		l.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return addDevices(l, Device{Host: "/dev"}, false)
	}
	l.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range o.Devices {
		if err := addDevices(l, d, true); err != nil {
			return err
		}
	}
	return nil
}

// notPassed are parts of /dev that a container has its own of.
var notPassed = []string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}

func addDevices(l *specs.Linux, d Device, rules bool) error {
	if d.Container == "" {
		d.Container = d.Host
	}
	info, err := os.Stat(d.Host)
	if err != nil {
		return fmt.Errorf("device %s: %w", d.Host, err)
	}
	if !info.IsDir() {
		return addDevice(l, d, info, rules)
	}
	return filepath.WalkDir(d.Host, func(name string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(d.Host, name)
		switch {
		case err != nil:
			return nil // vanished meanwhile
		case e.IsDir() && slices.Contains(notPassed, rel):
			return filepath.SkipDir
		case e.Type()&fs.ModeDevice == 0 || rel == "console":
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		return addDevice(l, Device{Host: name, Container: path.Join(d.Container, rel), Access: d.Access}, info, rules)
	})
}

func addDevice(l *specs.Linux, d Device, info fs.FileInfo, rules bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeDevice == 0 {
		return fmt.Errorf("device %s: is no device", d.Host)
	}
	kind := "b"
	if info.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	major, minor := deviceNumber(uint64(st.Rdev))
	mode := info.Mode().Perm()
	l.Devices = append(l.Devices, specs.LinuxDevice{
		Path: d.Container, Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	})
	if rules {
		access := d.Access
		if access == "" {
			access = "rwm"
		}
		l.Resources.Devices = append(l.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access,
		})
	}
	return nil
}

// deviceNumber splits a device's number as the C library does (gnu_dev_major).
func deviceNumber(dev uint64) (major, minor int64) {
	major = int64(dev>>8&0xfff | dev>>32&^0xfff)
	minor = int64(dev&0xff | dev>>12&^0xff)
	return major, minor
}

// Limits checks the resources and returns them as a runtime takes them for a
// running container.
func (r *Resources) Limits() (*specs.LinuxResources, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	return r.spec(), nil
}
