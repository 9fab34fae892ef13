package engine

import (
	api "github.com/moby/moby/api/types/container"
)

// discardLimits takes limits away that this daemon has no control groups for, and tells
// what it has taken, in Docker's words. Processor time that was promised is refused.
func (e *Engine) discardLimits(r *api.Resources) (warn []string, err error) {
	if !e.Unlimited {
		return nil, nil
	}
	if r.NanoCPUs != 0 {
		return nil, invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	}
	const discarded = " or the cgroup is not mounted. "
	drop := func(given bool, what string) {
		if given {
			warn = append(warn, what)
		}
	}
	drop(r.Memory != 0, "Your kernel does not support memory limit capabilities"+discarded+"Limitation discarded.")
	drop(r.MemorySwap != 0 && r.MemorySwap != 2*r.Memory, "Your kernel does not support swap limit capabilities"+discarded+"Memory limited without swap.")
	drop(r.MemoryReservation != 0, "Your kernel does not support memory soft limit capabilities"+discarded+"Limitation discarded.")
	drop(r.PidsLimit != nil && *r.PidsLimit > 0, "Your kernel does not support PIDs limit capabilities"+discarded+"PIDs limit discarded.")
	drop(r.CPUShares != 0, "Your kernel does not support CPU shares"+discarded+"Shares discarded.")
	drop(r.CPUPeriod != 0 || r.CPUQuota != 0, "Your kernel does not support CPU CFS scheduler"+discarded+"Period and quota discarded.")
	drop(r.CpusetCpus != "" || r.CpusetMems != "", "Your kernel does not support cpuset"+discarded+"Cpuset discarded.")
	drop(r.BlkioWeight != 0, "Your kernel does not support Block I/O weight"+discarded+"Weight discarded.")
	drop(len(r.BlkioWeightDevice)+len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0,
		"Your kernel does not support limits of block devices"+discarded+"Limits discarded.")
	r.Memory, r.MemorySwap, r.MemoryReservation, r.MemorySwappiness, r.OomKillDisable, r.PidsLimit = 0, 0, 0, nil, nil, nil
	r.CPUShares, r.CPUPeriod, r.CPUQuota, r.CpusetCpus, r.CpusetMems, r.BlkioWeight = 0, 0, 0, "", "", 0
	r.CPURealtimePeriod, r.CPURealtimeRuntime = 0, 0
	r.BlkioWeightDevice, r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil, nil, nil, nil
	return warn, nil
}
