package option

import (
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// Limits are the flags of resources, which update takes too.
type Limits struct {
	flags *pflag.FlagSet

	blkioWeight                                uint16
	blkioDevices                               opts.WeightdeviceOpt
	readBps, writeBps, readIOps, writeIOps     opts.ThrottledeviceOpt
	cpusetCPUs, cpusetMems                     string
	period, quota, rtPeriod, rtRuntime, shares int64
	cpus                                       opts.NanoCPUs
	memory, reservation                        opts.MemBytes
	swap                                       opts.MemSwapBytes
	swappiness, pids                           int64
	oomKillDisable                             bool
}

// Add declares all of them.
func (l *Limits) Add(flags *pflag.FlagSet) {
	l.AddLive(flags)
	l.blkioDevices = opts.NewWeightdeviceOpt(opts.ValidateWeightDevice)
	l.readBps, l.writeBps = opts.NewThrottledeviceOpt(opts.ValidateThrottleBpsDevice), opts.NewThrottledeviceOpt(opts.ValidateThrottleBpsDevice)
	l.readIOps, l.writeIOps = opts.NewThrottledeviceOpt(opts.ValidateThrottleIOpsDevice), opts.NewThrottledeviceOpt(opts.ValidateThrottleIOpsDevice)
	flags.Var(&l.blkioDevices, "blkio-weight-device", "Weight of a block device's input and output")
	flags.Var(&l.readBps, "device-read-bps", "Bytes a second that may be read from a device")
	flags.Var(&l.writeBps, "device-write-bps", "Bytes a second that may be written to a device")
	flags.Var(&l.readIOps, "device-read-iops", "Reads a second from a device")
	flags.Var(&l.writeIOps, "device-write-iops", "Writes a second to a device")
	flags.Int64Var(&l.swappiness, "memory-swappiness", -1, "Readiness to swap (0 to 100)")
	flags.BoolVar(&l.oomKillDisable, "oom-kill-disable", false, "Let processes wait instead of killing one when memory is out")
}

// AddLive declares those that a running container's can be changed by.
func (l *Limits) AddLive(flags *pflag.FlagSet) {
	l.flags = flags
	flags.Uint16Var(&l.blkioWeight, "blkio-weight", 0, "Weight of input and output (10 to 1000, 0 is none)")
	flags.StringVar(&l.cpusetCPUs, "cpuset-cpus", "", "CPUs to run on (0-3, 0,1)")
	flags.StringVar(&l.cpusetMems, "cpuset-mems", "", "Memory nodes to use (0-3, 0,1)")
	flags.Int64Var(&l.period, "cpu-period", 0, "Period of the CPU quota, in microseconds")
	flags.Int64Var(&l.quota, "cpu-quota", 0, "CPU time in each period, in microseconds")
	flags.Int64Var(&l.rtPeriod, "cpu-rt-period", 0, "Period of real-time CPU, in microseconds")
	flags.Int64Var(&l.rtRuntime, "cpu-rt-runtime", 0, "Real-time CPU in each period, in microseconds")
	flags.Int64VarP(&l.shares, "cpu-shares", "c", 0, "Weight of CPU time")
	flags.Var(&l.cpus, "cpus", "Number of CPUs")
	flags.VarP(&l.memory, "memory", "m", "Memory limit")
	flags.Var(&l.reservation, "memory-reservation", "Soft memory limit")
	flags.Var(&l.swap, "memory-swap", "Limit of memory and swap together (-1 is none)")
	flags.Int64Var(&l.pids, "pids-limit", 0, "Number of processes (-1 is no limit)")
}

// Resources are the limits as the API takes them.
func (l *Limits) Resources() container.Resources {
	r := container.Resources{
		BlkioWeight: l.blkioWeight, BlkioWeightDevice: l.blkioDevices.GetList(),
		BlkioDeviceReadBps: l.readBps.GetList(), BlkioDeviceWriteBps: l.writeBps.GetList(),
		BlkioDeviceReadIOps: l.readIOps.GetList(), BlkioDeviceWriteIOps: l.writeIOps.GetList(),
		CpusetCpus: l.cpusetCPUs, CpusetMems: l.cpusetMems,
		CPUPeriod: l.period, CPUQuota: l.quota, CPURealtimePeriod: l.rtPeriod, CPURealtimeRuntime: l.rtRuntime, CPUShares: l.shares,
		NanoCPUs: l.cpus.Value(), Memory: l.memory.Value(), MemoryReservation: l.reservation.Value(), MemorySwap: l.swap.Value(),
	}
	if l.flags.Changed("pids-limit") {
		r.PidsLimit = &l.pids
	}
	if l.flags.Changed("memory-swappiness") {
		r.MemorySwappiness = &l.swappiness
	}
	if l.flags.Changed("oom-kill-disable") {
		r.OomKillDisable = &l.oomKillDisable
	}
	return r
}
