package engine

import (
	"os"
	"regexp"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/types/blkiodev"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// addLimits adds the limits that only Docker's clients ask for.
func addLimits(l *specs.LinuxResources, r *api.Resources) error {
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 || r.OomKillDisable != nil && *r.OomKillDisable {
		if l.Memory == nil {
			l.Memory = &specs.LinuxMemory{}
		}
		l.Memory.DisableOOMKiller = r.OomKillDisable
		if n := r.MemorySwappiness; n != nil && *n >= 0 {
			value := uint64(*n)
			l.Memory.Swappiness = &value
		}
	}
	addRealtime(l, r)
	for _, text := range r.DeviceCgroupRules {
		rule, err := deviceRule(text)
		if err != nil {
			return err
		}
		l.Devices = append(l.Devices, rule)
	}
	return addDeviceLimits(l, r)
}

// addRealtime adds the limits of real-time scheduling, in microseconds.
func addRealtime(l *specs.LinuxResources, r *api.Resources) {
	if r.CPURealtimePeriod == 0 && r.CPURealtimeRuntime == 0 {
		return
	}
	if l.CPU == nil {
		l.CPU = &specs.LinuxCPU{}
	}
	if period := uint64(r.CPURealtimePeriod); period != 0 {
		l.CPU.RealtimePeriod = &period
	}
	if runtime := r.CPURealtimeRuntime; runtime != 0 {
		l.CPU.RealtimeRuntime = &runtime
	}
}

// minMemory is the least limit of memory, in bytes: a container doesn't start below it.
const minMemory = 6 << 20

// validLimits refuses what no kernel takes.
func validLimits(r *api.Resources) error {
	if r.CPUShares < 0 {
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	}
	if r.Memory > 0 && r.Memory < minMemory {
		return invalid("Minimum memory limit allowed is 6MB")
	}
	if n := r.MemorySwappiness; n != nil && (*n < -1 || *n > 100) {
		return invalid("invalid value: %d, valid memory swappiness range is 0-100", *n)
	}
	if r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0 || r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod {
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	for _, text := range r.DeviceCgroupRules {
		if _, err := deviceRule(text); err != nil {
			return err
		}
	}
	return nil
}

var ruleForm = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// deviceRule reads a rule of the device control group, such as "c 1:3 rw".
func deviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := ruleForm.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, invalid("invalid device cgroup rule format: '%s'", text)
	}
	out := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, to := range []**int64{&out.Major, &out.Minor} {
		if m[2+i] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[2+i], 10, 32)
		if err != nil {
			return out, invalid("invalid device cgroup rule format: '%s'", text)
		}
		*to = &n
	}
	return out, nil
}

// addDeviceLimits adds limits of input and output of single devices.
func addDeviceLimits(l *specs.LinuxResources, r *api.Resources) error {
	if len(r.BlkioWeightDevice)+len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) == 0 {
		return nil
	}
	if l.BlockIO == nil {
		l.BlockIO = &specs.LinuxBlockIO{}
	}
	for _, d := range r.BlkioWeightDevice {
		major, minor, err := blockDevice(d.Path)
		if err != nil {
			return err
		}
		weighted := specs.LinuxWeightDevice{Weight: &d.Weight}
		weighted.Major, weighted.Minor = major, minor
		l.BlockIO.WeightDevice = append(l.BlockIO.WeightDevice, weighted)
	}
	for _, kind := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &l.BlockIO.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &l.BlockIO.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &l.BlockIO.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &l.BlockIO.ThrottleWriteIOPSDevice},
	} {
		for _, d := range kind.from {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return err
			}
			limited := specs.LinuxThrottleDevice{Rate: d.Rate}
			limited.Major, limited.Minor = major, minor
			*kind.to = append(*kind.to, limited)
		}
	}
	return nil
}

// blockDevice finds the number of a block device.
func blockDevice(path string) (major, minor int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, invalid("device %s: %v", path, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, invalid("device %s: it is no block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// fixedResources are limits that are set once, when a container starts.
func fixedResources(r *api.Resources) error {
	for _, f := range []field{
		{len(r.DeviceCgroupRules) > 0, "rules for devices"}, {len(r.DeviceRequests) > 0, "devices"},
		{r.MemorySwappiness != nil && *r.MemorySwappiness >= 0, "swappiness"},
		{r.OomKillDisable != nil && *r.OomKillDisable, "the end of processes for want of memory"},
	} {
		if f.given {
			return invalid("%s can't be changed", f.name)
		}
	}
	return nil
}
