package engine

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// Sample is what a container uses at one moment.
type Sample struct {
	Time time.Time
	// CPU times in nanoseconds; System is the whole machine's.
	CPU, CPUUser, CPUKernel, System uint64
	PerCPU                          []uint64
	OnlineCPUs                      uint32
	Periods, Throttled              uint64
	ThrottledTime                   uint64
	// Memory in bytes.
	Memory, MemoryMax, MemoryLimit, MemoryFailures uint64
	MemoryStats                                    map[string]uint64
	PIDs, PIDsLimit                                uint64
	IO                                             []IOSample
	Networks                                       []NetworkSample
}

// IOSample counts bytes that a device has read or written.
type IOSample struct {
	Major, Minor uint64
	Op           string
	Bytes        uint64
}

// Stats measures a container; one that doesn't run uses nothing.
func (e *Engine) Stats(ctx context.Context, ref string) (View, Sample, error) {
	v, err := e.Inspect(ref)
	if err != nil || !v.State.Running {
		return v, Sample{}, err
	}
	ctx = e.in(ctx)
	s := Sample{Time: now(), OnlineCPUs: uint32(runtime.NumCPU()), System: systemCPU()}
	t, err := e.Tasks.Get(ctx, v.ID)
	resp := &wire.StatsResponse{}
	if err == nil {
		err = t.Call(ctx, "Stats", &wire.StatsRequest{ID: v.ID}, resp)
	}
	if errdefs.IsNotFound(err) {
		return v, Sample{}, nil // it has just ended
	}
	if err != nil {
		return v, s, err
	}
	m, err := typeurl.UnmarshalAny(resp.Stats)
	if err != nil {
		return v, s, err
	}
	switch m := m.(type) {
	case *v1.Metrics:
		s.fromV1(m)
	case *v2.Metrics:
		s.fromV2(m)
	}
	if mode := v.HostConfig.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
		s.Networks = networkSamples(v.State.PID)
	}
	if total := memoryTotal(); total > 0 && (s.MemoryLimit == 0 || s.MemoryLimit > total) {
		s.MemoryLimit = total
	}
	return v, s, nil
}

func (s *Sample) fromV1(m *v1.Metrics) {
	usage := m.GetCPU().GetUsage()
	s.CPU, s.CPUUser, s.CPUKernel, s.PerCPU = usage.GetTotal(), usage.GetUser(), usage.GetKernel(), usage.GetPerCPU()
	th := m.GetCPU().GetThrottling()
	s.Periods, s.Throttled, s.ThrottledTime = th.GetPeriods(), th.GetThrottledPeriods(), th.GetThrottledTime()
	mem := m.GetMemory()
	s.Memory, s.MemoryMax = mem.GetUsage().GetUsage(), mem.GetUsage().GetMax()
	s.MemoryLimit, s.MemoryFailures = mem.GetUsage().GetLimit(), mem.GetUsage().GetFailcnt()
	s.MemoryStats = map[string]uint64{"cache": mem.GetCache(), "rss": mem.GetRSS(), "total_inactive_file": mem.GetTotalInactiveFile(),
		"total_cache": mem.GetTotalCache(), "total_rss": mem.GetTotalRSS(), "mapped_file": mem.GetMappedFile(), "pgfault": mem.GetPgFault()}
	s.PIDs, s.PIDsLimit = m.GetPids().GetCurrent(), m.GetPids().GetLimit()
	for _, b := range m.GetBlkio().GetIoServiceBytesRecursive() {
		s.IO = append(s.IO, IOSample{b.GetMajor(), b.GetMinor(), b.GetOp(), b.GetValue()})
	}
}

func (s *Sample) fromV2(m *v2.Metrics) {
	c := m.GetCPU()
	s.CPU, s.CPUUser, s.CPUKernel = c.GetUsageUsec()*1000, c.GetUserUsec()*1000, c.GetSystemUsec()*1000
	s.Periods, s.Throttled, s.ThrottledTime = c.GetNrPeriods(), c.GetNrThrottled(), c.GetThrottledUsec()*1000
	mem := m.GetMemory()
	s.Memory, s.MemoryMax, s.MemoryLimit, s.MemoryFailures = mem.GetUsage(), mem.GetMaxUsage(), mem.GetUsageLimit(), m.GetMemoryEvents().GetMax()
	s.MemoryStats = map[string]uint64{"anon": mem.GetAnon(), "file": mem.GetFile(), "inactive_file": mem.GetInactiveFile(),
		"shmem": mem.GetShmem(), "slab": mem.GetSlab(), "pgfault": mem.GetPgfault()}
	s.PIDs, s.PIDsLimit = m.GetPids().GetCurrent(), m.GetPids().GetLimit()
	for _, d := range m.GetIo().GetUsage() {
		s.IO = append(s.IO, IOSample{d.GetMajor(), d.GetMinor(), "read", d.GetRbytes()}, IOSample{d.GetMajor(), d.GetMinor(), "write", d.GetWbytes()})
	}
}

// ticks is how many parts of a second the kernel counts in (USER_HZ).
const ticks = 100

// systemCPU is the time that all processors have counted, in nanoseconds (proc(5),
// /proc/stat: user to softirq and steal).
func systemCPU() uint64 {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 8 {
		return 0
	}
	var sum uint64
	for _, text := range fields[1:8] {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0
		}
		sum += n
	}
	return sum * uint64(time.Second/ticks)
}

// memoryTotal is the machine's memory in bytes.
func memoryTotal() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseUint(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}
