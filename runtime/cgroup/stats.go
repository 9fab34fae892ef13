package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Stats is what a group has used. Absent controllers leave zeros.
type Stats struct {
	// CPU is processor time.
	CPU CPUStats
	// Memory is memory and swap.
	Memory MemoryStats
	// Pids counts processes.
	Pids PidsStats
	// IO lists traffic by device.
	IO []IOEntry
	// Hugetlb is keyed by page size ("2MB").
	Hugetlb map[string]HugetlbStats
}

// CPUStats is processor time in nanoseconds.
type CPUStats struct {
	// Usage, User and System are times consumed.
	Usage, User, System uint64
	// PerCPU is the usage on each processor (version 1 only).
	PerCPU []uint64
	// Periods, Throttled and ThrottledTime tell about the quota.
	Periods, Throttled, ThrottledTime uint64
	// Pressure is nil where the kernel doesn't tell.
	Pressure *Pressure
}

// MemoryStats is in bytes.
type MemoryStats struct {
	// Usage, Peak and Limit are of memory; a limit of all ones is none.
	Usage, Peak, Limit uint64
	// Failed counts attempts to pass the limit.
	Failed uint64
	// SwapUsage and SwapLimit are of memory plus swap on version 1, of swap
	// alone on version 2. SwapPeak and SwapFailed go with them.
	SwapUsage, SwapPeak, SwapLimit, SwapFailed uint64
	// Kernel and KernelTCP are the kernel's share (version 1 only).
	Kernel, KernelTCP uint64
	// OOMKills counts processes killed.
	OOMKills uint64
	// Raw is memory.stat.
	Raw map[string]uint64
	// Pressure is nil where the kernel doesn't tell.
	Pressure *Pressure
}

// PidsStats counts processes; a limit of all ones is none.
type PidsStats struct{ Current, Limit uint64 }

// IOEntry is one counter of one device.
type IOEntry struct {
	// Major and Minor name the device.
	Major, Minor uint64
	// Op is "Read", "Write", …; Kind is "bytes" or "ios".
	Op, Kind string
	// Value is the count.
	Value uint64
}

// HugetlbStats is in bytes.
type HugetlbStats struct{ Usage, Peak, Failed uint64 }

// Pressure is how long tasks waited.
type Pressure struct {
	// Some is when at least one task waited, Full when all did.
	Some PressureLine `json:"some"`
	Full PressureLine `json:"full"`
}

// PressureLine is one line of a pressure file: shares in percent, Total in µs.
type PressureLine struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Stats reads all counters.
func (g *Group) Stats() (*Stats, error) {
	if g.Unified {
		return g.statsV2(), nil
	}
	s := &Stats{Hugetlb: map[string]HugetlbStats{}}
	if dir, ok := g.dir("cpuacct"); ok {
		g.cpuV1(dir, &s.CPU)
	}
	if dir, ok := g.dir("cpu"); ok {
		k := readKeys(filepath.Join(dir, "cpu.stat"))
		s.CPU.Periods, s.CPU.Throttled, s.CPU.ThrottledTime = k["nr_periods"], k["nr_throttled"], k["throttled_time"]
	}
	if dir, ok := g.dir("memory"); ok {
		memoryV1(dir, &s.Memory)
	}
	if dir, ok := g.dir("pids"); ok {
		s.Pids = PidsStats{readUint(filepath.Join(dir, "pids.current")), readUint(filepath.Join(dir, "pids.max"))}
	}
	if dir, ok := g.dir("blkio"); ok {
		s.IO = append(blkio(dir, "blkio.throttle.io_service_bytes", "bytes"), blkio(dir, "blkio.throttle.io_serviced", "ios")...)
	}
	if dir, ok := g.dir("hugetlb"); ok {
		hugetlb(dir, ".usage_in_bytes", ".max_usage_in_bytes", ".failcnt", s.Hugetlb)
	}
	if g.V2 != "" {
		s.CPU.Pressure = pressure(filepath.Join(g.V2, "cpu.pressure"))
		s.Memory.Pressure = pressure(filepath.Join(g.V2, "memory.pressure"))
	}
	return s, nil
}

func (g *Group) cpuV1(dir string, c *CPUStats) {
	c.Usage = readUint(filepath.Join(dir, "cpuacct.usage"))
	c.User = readUint(filepath.Join(dir, "cpuacct.usage_user"))
	c.System = readUint(filepath.Join(dir, "cpuacct.usage_sys"))
	b, _ := os.ReadFile(filepath.Join(dir, "cpuacct.usage_percpu"))
	for _, f := range strings.Fields(string(b)) {
		v, _ := strconv.ParseUint(f, 10, 64)
		c.PerCPU = append(c.PerCPU, v)
	}
}

func memoryV1(dir string, m *MemoryStats) {
	read := func(file string) uint64 { return readUint(filepath.Join(dir, file)) }
	m.Usage, m.Peak, m.Limit = read("memory.usage_in_bytes"), read("memory.max_usage_in_bytes"), read("memory.limit_in_bytes")
	m.Failed = read("memory.failcnt")
	m.SwapUsage, m.SwapPeak = read("memory.memsw.usage_in_bytes"), read("memory.memsw.max_usage_in_bytes")
	m.SwapLimit, m.SwapFailed = read("memory.memsw.limit_in_bytes"), read("memory.memsw.failcnt")
	m.Kernel, m.KernelTCP = read("memory.kmem.usage_in_bytes"), read("memory.kmem.tcp.usage_in_bytes")
	m.Raw = readKeys(filepath.Join(dir, "memory.stat"))
	m.OOMKills = readKeys(filepath.Join(dir, "memory.oom_control"))["oom_kill"]
}

func (g *Group) statsV2() *Stats {
	read := func(file string) uint64 { return readUint(filepath.Join(g.V2, file)) }
	s := &Stats{Hugetlb: map[string]HugetlbStats{}}
	k := readKeys(filepath.Join(g.V2, "cpu.stat"))
	s.CPU = CPUStats{Usage: k["usage_usec"] * 1000, User: k["user_usec"] * 1000, System: k["system_usec"] * 1000,
		Periods: k["nr_periods"], Throttled: k["nr_throttled"], ThrottledTime: k["throttled_usec"] * 1000}
	s.CPU.Pressure = pressure(filepath.Join(g.V2, "cpu.pressure"))
	events := readKeys(filepath.Join(g.V2, "memory.events"))
	s.Memory = MemoryStats{Usage: read("memory.current"), Peak: read("memory.peak"), Limit: read("memory.max"),
		SwapUsage: read("memory.swap.current"), SwapPeak: read("memory.swap.peak"), SwapLimit: read("memory.swap.max"),
		Failed: events["max"], OOMKills: events["oom_kill"], Raw: readKeys(filepath.Join(g.V2, "memory.stat"))}
	s.Memory.Pressure = pressure(filepath.Join(g.V2, "memory.pressure"))
	s.Pids = PidsStats{read("pids.current"), read("pids.max")}
	s.IO = ioStat(filepath.Join(g.V2, "io.stat"))
	hugetlb(g.V2, ".current", ".max_usage", ".events", s.Hugetlb)
	return s
}

// readKeys reads lines of a key and a number.
func readKeys(path string) map[string]uint64 {
	out := map[string]uint64{}
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseUint(value, 10, 64); ok && err == nil {
			out[key] = v
		}
	}
	return out
}

// blkio reads lines like "8:0 Read 4096".
func blkio(dir, file, kind string) []IOEntry {
	var out []IOEntry
	b, _ := os.ReadFile(filepath.Join(dir, file))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		e := IOEntry{Op: f[1], Kind: kind}
		e.Major, e.Minor = device(f[0])
		e.Value, _ = strconv.ParseUint(f[2], 10, 64)
		out = append(out, e)
	}
	return out
}

// ioStat reads lines like "8:0 rbytes=1 wbytes=2 rios=3 wios=4".
func ioStat(path string) []IOEntry {
	var out []IOEntry
	names := map[string]IOEntry{"rbytes": {Op: "Read", Kind: "bytes"}, "wbytes": {Op: "Write", Kind: "bytes"},
		"rios": {Op: "Read", Kind: "ios"}, "wios": {Op: "Write", Kind: "ios"},
		"dbytes": {Op: "Discard", Kind: "bytes"}, "dios": {Op: "Discard", Kind: "ios"}}
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			key, value, _ := strings.Cut(f[i], "=")
			e, ok := names[key]
			if !ok {
				continue
			}
			e.Major, e.Minor = device(f[0])
			e.Value, _ = strconv.ParseUint(value, 10, 64)
			out = append(out, e)
		}
	}
	return out
}

func device(s string) (major, minor uint64) {
	a, b, _ := strings.Cut(s, ":")
	major, _ = strconv.ParseUint(a, 10, 64)
	minor, _ = strconv.ParseUint(b, 10, 64)
	return major, minor
}

func hugetlb(dir, usage, peak, failed string, out map[string]HugetlbStats) {
	files, _ := filepath.Glob(filepath.Join(dir, "hugetlb.*"+usage))
	for _, f := range files {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "hugetlb."), usage)
		if size == "" || strings.Contains(size, ".") {
			continue // reservations
		}
		base := filepath.Join(dir, "hugetlb."+size)
		h := HugetlbStats{Usage: readUint(f), Peak: readUint(base + peak), Failed: readUint(base + failed)}
		if failed == ".events" {
			h.Failed = readKeys(base + failed)["max"]
		}
		out[size] = h
	}
}

func pressure(path string) *Pressure {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	p := &Pressure{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		l := &p.Some
		if f[0] == "full" {
			l = &p.Full
		}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			switch key {
			case "avg10":
				l.Avg10, _ = strconv.ParseFloat(value, 64)
			case "avg60":
				l.Avg60, _ = strconv.ParseFloat(value, 64)
			case "avg300":
				l.Avg300, _ = strconv.ParseFloat(value, 64)
			case "total":
				l.Total, _ = strconv.ParseUint(value, 10, 64)
			}
		}
	}
	return p
}
