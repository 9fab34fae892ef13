package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// applyV2 sets limits in the unified hierarchy.
func (g *Group) applyV2(r *specs.LinuxResources) (warnings []string, err error) {
	for _, s := range settingsV2(r) {
		err := write(filepath.Join(g.V2, s.file), s.value)
		if s.file == bfqWeight && errors.Is(err, os.ErrNotExist) {
			err = write(filepath.Join(g.V2, "io.weight"), u64(ioWeight(*r.BlockIO.Weight)))
		}
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			err = g.missing(s.file)
		}
		if !s.soft {
			return warnings, err
		}
		warnings = append(warnings, err.Error())
	}
	return warnings, nil
}

// missing is the error for a file that the group should have.
func (g *Group) missing(file string) error {
	if _, err := os.Stat(g.V2); err != nil {
		return err
	}
	if g.refused != "" {
		return fmt.Errorf("%s: %w: %s", file, ErrController, g.refused)
	}
	return fmt.Errorf("%s: %w", file, ErrController)
}

// bfqWeight is the weight of the bfq scheduler. Where that isn't loaded, io.weight
// is the nearest.
const bfqWeight = "io.bfq.weight"

// ioWeight converts a weight of 10 to 1000 to one of 1 to 10000.
func ioWeight(w uint16) uint64 {
	return 1 + (uint64(min(max(w, 10), 1000))-10)*9999/990
}

func settingsV2(r *specs.LinuxResources) []setting {
	var out []setting
	add := func(file, value string, soft bool) { out = append(out, setting{"", file, value, soft}) }
	max := func(v int64) string {
		if v < 0 {
			return "max"
		}
		return i64(v)
	}
	if m := r.Memory; m != nil {
		out = append(out, memoryV2(m)...)
	}
	if c := r.CPU; c != nil {
		out = append(out, cpuV2(c)...)
	}
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		add("pids.max", max(*r.Pids.Limit), *r.Pids.Limit < 0)
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil && *b.Weight != 0 {
			add(bfqWeight, u64(uint64(*b.Weight)), true)
		}
		for key, list := range map[string][]specs.LinuxThrottleDevice{
			"rbps": b.ThrottleReadBpsDevice, "wbps": b.ThrottleWriteBpsDevice,
			"riops": b.ThrottleReadIOPSDevice, "wiops": b.ThrottleWriteIOPSDevice,
		} {
			for _, d := range list {
				rate := u64(d.Rate)
				if d.Rate == 0 {
					rate = "max"
				}
				add("io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, key, rate), false)
			}
		}
	}
	for _, l := range r.HugepageLimits {
		add("hugetlb."+l.Pagesize+".max", u64(l.Limit), false)
		add("hugetlb."+l.Pagesize+".rsvd.max", u64(l.Limit), true)
	}
	for device, l := range r.Rdma {
		add("rdma.max", rdma(device, l), false)
	}
	for file, value := range r.Unified {
		if !strings.Contains(file, "/") {
			add(file, value, false)
		}
	}
	return out
}

// memoryV2 turns the sum of memory and swap into swap alone.
func memoryV2(m *specs.LinuxMemory) []setting {
	var out []setting
	add := func(file string, v int64) {
		value := i64(v)
		if v < 0 {
			value = "max"
		}
		// Swap that the kernel doesn't count needs no limit of all or nothing.
		out = append(out, setting{"", file, value, v < 0 || v == 0 && file == "memory.swap.max"})
	}
	if m.Swap != nil && *m.Swap != 0 {
		switch {
		case *m.Swap < 0:
			add("memory.swap.max", -1)
		case m.Limit != nil && *m.Limit > 0 && *m.Swap >= *m.Limit:
			add("memory.swap.max", *m.Swap-*m.Limit)
		}
	}
	if m.Limit != nil && *m.Limit != 0 {
		add("memory.max", *m.Limit)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		add("memory.low", *m.Reservation)
	}
	return out
}

func cpuV2(c *specs.LinuxCPU) []setting {
	var out []setting
	add := func(file, value string, soft bool) { out = append(out, setting{"", file, value, soft}) }
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu.weight", u64(Weight(*c.Shares)), true)
	}
	if c.Quota != nil || c.Period != nil {
		quota, period := "max", uint64(100000)
		if c.Quota != nil && *c.Quota > 0 {
			quota = i64(*c.Quota)
		}
		if c.Period != nil && *c.Period != 0 {
			period = *c.Period
		}
		add("cpu.max", quota+" "+u64(period), quota == "max")
	}
	if c.Burst != nil {
		add("cpu.max.burst", u64(*c.Burst), *c.Burst == 0)
	}
	if c.Idle != nil {
		add("cpu.idle", i64(*c.Idle), *c.Idle == 0)
	}
	if c.Cpus != "" {
		add("cpuset.cpus", c.Cpus, false)
	}
	if c.Mems != "" {
		add("cpuset.mems", c.Mems, false)
	}
	return out
}

// Weight converts CPU shares (2 to 262144, default 1024) to a weight (1 to
// 10000, default 100), so that minimum, default and maximum meet.
func Weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
