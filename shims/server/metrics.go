package server

import (
	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/orlop/orlop/runtime/cgroup"
)

// metricsV1 puts counters into the message that clients expect on hosts with
// version 1 hierarchies.
func metricsV1(s *cgroup.Stats) *v1.Metrics {
	m := &v1.Metrics{
		Pids: &v1.PidsStat{Current: s.Pids.Current, Limit: s.Pids.Limit},
		CPU: &v1.CPUStat{
			Usage:      &v1.CPUUsage{Total: s.CPU.Usage, User: s.CPU.User, Kernel: s.CPU.System, PerCPU: s.CPU.PerCPU},
			Throttling: &v1.Throttle{Periods: s.CPU.Periods, ThrottledPeriods: s.CPU.Throttled, ThrottledTime: s.CPU.ThrottledTime},
		},
		Memory:           memoryV1(&s.Memory),
		MemoryOomControl: &v1.MemoryOomControl{OomKill: s.Memory.OOMKills},
		Blkio:            blkioV1(s.IO),
	}
	if m.Pids.Limit == ^uint64(0) {
		m.Pids.Limit = 0 // what "max" is in this message
	}
	for size, h := range s.Hugetlb {
		m.Hugetlb = append(m.Hugetlb, &v1.HugetlbStat{Pagesize: size, Usage: h.Usage, Max: h.Peak, Failcnt: h.Failed})
	}
	return m
}

func memoryV1(s *cgroup.MemoryStats) *v1.MemoryStat {
	r := s.Raw
	return &v1.MemoryStat{
		Cache: r["cache"], RSS: r["rss"], RSSHuge: r["rss_huge"], MappedFile: r["mapped_file"], Dirty: r["dirty"],
		Writeback: r["writeback"], PgPgIn: r["pgpgin"], PgPgOut: r["pgpgout"], PgFault: r["pgfault"], PgMajFault: r["pgmajfault"],
		InactiveAnon: r["inactive_anon"], ActiveAnon: r["active_anon"], InactiveFile: r["inactive_file"],
		ActiveFile: r["active_file"], Unevictable: r["unevictable"],
		HierarchicalMemoryLimit: r["hierarchical_memory_limit"], HierarchicalSwapLimit: r["hierarchical_memsw_limit"],
		TotalCache: r["total_cache"], TotalRSS: r["total_rss"], TotalRSSHuge: r["total_rss_huge"],
		TotalMappedFile: r["total_mapped_file"], TotalDirty: r["total_dirty"], TotalWriteback: r["total_writeback"],
		TotalPgPgIn: r["total_pgpgin"], TotalPgPgOut: r["total_pgpgout"], TotalPgFault: r["total_pgfault"],
		TotalPgMajFault: r["total_pgmajfault"], TotalInactiveAnon: r["total_inactive_anon"], TotalActiveAnon: r["total_active_anon"],
		TotalInactiveFile: r["total_inactive_file"], TotalActiveFile: r["total_active_file"], TotalUnevictable: r["total_unevictable"],
		Usage:     &v1.MemoryEntry{Limit: s.Limit, Usage: s.Usage, Max: s.Peak, Failcnt: s.Failed},
		Swap:      &v1.MemoryEntry{Limit: s.SwapLimit, Usage: s.SwapUsage, Max: s.SwapPeak, Failcnt: s.SwapFailed},
		Kernel:    &v1.MemoryEntry{Usage: s.Kernel},
		KernelTCP: &v1.MemoryEntry{Usage: s.KernelTCP},
	}
}

func blkioV1(list []cgroup.IOEntry) *v1.BlkIOStat {
	out := &v1.BlkIOStat{}
	for _, e := range list {
		entry := &v1.BlkIOEntry{Op: e.Op, Major: e.Major, Minor: e.Minor, Value: e.Value}
		if e.Kind == "bytes" {
			out.IoServiceBytesRecursive = append(out.IoServiceBytesRecursive, entry)
		} else {
			out.IoServicedRecursive = append(out.IoServicedRecursive, entry)
		}
	}
	return out
}

// nanosInMicro converts: version 2 counts microseconds.
const nanosInMicro = 1000

func metricsV2(s *cgroup.Stats) *v2.Metrics {
	m := &v2.Metrics{
		Pids: &v2.PidsStat{Current: s.Pids.Current, Limit: s.Pids.Limit},
		CPU: &v2.CPUStat{
			UsageUsec: s.CPU.Usage / nanosInMicro, UserUsec: s.CPU.User / nanosInMicro, SystemUsec: s.CPU.System / nanosInMicro,
			NrPeriods: s.CPU.Periods, NrThrottled: s.CPU.Throttled, ThrottledUsec: s.CPU.ThrottledTime / nanosInMicro,
			PSI: pressureV2(s.CPU.Pressure),
		},
		Memory:       memoryV2(&s.Memory),
		MemoryEvents: &v2.MemoryEvents{Max: s.Memory.Failed, OomKill: s.Memory.OOMKills},
		Io:           ioV2(s.IO),
	}
	for size, h := range s.Hugetlb {
		m.Hugetlb = append(m.Hugetlb, &v2.HugeTlbStat{Pagesize: size, Current: h.Usage, Max: h.Peak, Failcnt: h.Failed})
	}
	return m
}

func memoryV2(s *cgroup.MemoryStats) *v2.MemoryStat {
	r := s.Raw
	return &v2.MemoryStat{
		Anon: r["anon"], File: r["file"], KernelStack: r["kernel_stack"], Slab: r["slab"], Sock: r["sock"], Shmem: r["shmem"],
		FileMapped: r["file_mapped"], FileDirty: r["file_dirty"], FileWriteback: r["file_writeback"], AnonThp: r["anon_thp"],
		InactiveAnon: r["inactive_anon"], ActiveAnon: r["active_anon"], InactiveFile: r["inactive_file"], ActiveFile: r["active_file"],
		Unevictable: r["unevictable"], SlabReclaimable: r["slab_reclaimable"], SlabUnreclaimable: r["slab_unreclaimable"],
		Pgfault: r["pgfault"], Pgmajfault: r["pgmajfault"], Pgrefill: r["pgrefill"], Pgscan: r["pgscan"], Pgsteal: r["pgsteal"],
		Pgactivate: r["pgactivate"], Pgdeactivate: r["pgdeactivate"], Pglazyfree: r["pglazyfree"], Pglazyfreed: r["pglazyfreed"],
		ThpFaultAlloc: r["thp_fault_alloc"], ThpCollapseAlloc: r["thp_collapse_alloc"],
		Usage: s.Usage, UsageLimit: s.Limit, MaxUsage: s.Peak, SwapUsage: s.SwapUsage, SwapLimit: s.SwapLimit, SwapMaxUsage: s.SwapPeak,
		PSI: pressureV2(s.Pressure),
	}
}

func ioV2(list []cgroup.IOEntry) *v2.IOStat {
	type device struct{ major, minor uint64 }
	out, byDevice := &v2.IOStat{}, map[device]*v2.IOEntry{}
	for _, e := range list {
		d := byDevice[device{e.Major, e.Minor}]
		if d == nil {
			d = &v2.IOEntry{Major: e.Major, Minor: e.Minor}
			byDevice[device{e.Major, e.Minor}] = d
			out.Usage = append(out.Usage, d)
		}
		switch e.Op + e.Kind {
		case "Readbytes":
			d.Rbytes = e.Value
		case "Writebytes":
			d.Wbytes = e.Value
		case "Readios":
			d.Rios = e.Value
		case "Writeios":
			d.Wios = e.Value
		}
	}
	return out
}

func pressureV2(p *cgroup.Pressure) *v2.PSIStats {
	if p == nil {
		return nil
	}
	line := func(l cgroup.PressureLine) *v2.PSIData {
		return &v2.PSIData{Avg10: l.Avg10, Avg60: l.Avg60, Avg300: l.Avg300, Total: l.Total}
	}
	return &v2.PSIStats{Some: line(p.Some), Full: line(p.Full)}
}
