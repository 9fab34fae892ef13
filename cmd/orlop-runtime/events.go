package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orlop/orlop/runtime"
	"github.com/orlop/orlop/runtime/cgroup"
)

var eventsCommand = command{name: "events", args: "ID", help: "show statistics and lack of memory as JSON lines", least: 1, most: 1,
	flags: []option{
		{name: "stats", help: "show statistics once"},
		{name: "interval", value: "DURATION", help: "between statistics (default 5s)"},
	}, run: events}

// event is a line of output.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

func events(k *call) (int, error) {
	c, err := k.container()
	if err != nil {
		return 1, err
	}
	if c.Status() == runtime.Stopped {
		return 1, fmt.Errorf("container %q: %w: it has stopped", c.ID, runtime.ErrState)
	}
	var mu sync.Mutex
	show := func(kind string, data any) {
		mu.Lock()
		defer mu.Unlock()
		printJSON(event{kind, c.ID, data}, false)
	}
	stats := func() error {
		s, err := c.Stats()
		if err == nil {
			show("stats", statsOf(s))
		}
		return err
	}
	if k.flags.is("stats") {
		return 0, stats()
	}
	every := 5 * time.Second
	if s := k.flags.get("interval"); s != "" {
		if every, err = time.ParseDuration(s); err != nil || every <= 0 {
			return 1, fmt.Errorf("--interval %s: not a duration", s)
		}
	}
	var seen atomic.Uint64
	oom := func() {
		if n := c.Group().OOMKills(); n > seen.Swap(n) {
			show("oom", nil)
		}
	}
	if stop, err := c.OOM(oom); err == nil {
		defer stop()
	}
	oom() // what happened before is told too, on every version
	ended := make(chan struct{})
	go func() { c.Wait(k.ctx); close(ended) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return 0, nil
		case <-tick.C:
			if err := stats(); err != nil {
				return 1, err
			}
		}
	}
}

// The shape of statistics is the one that readers of runc's events know.
type (
	statsJSON struct {
		CPU     cpuJSON                `json:"cpu"`
		Memory  memoryJSON             `json:"memory"`
		Pids    pidsJSON               `json:"pids"`
		Blkio   map[string][]ioJSON    `json:"blkio"`
		Hugetlb map[string]hugetlbJSON `json:"hugetlb"`
	}
	cpuJSON struct {
		Usage struct {
			Total  uint64   `json:"total,omitempty"`
			PerCPU []uint64 `json:"percpu,omitempty"`
			Kernel uint64   `json:"kernel"`
			User   uint64   `json:"user"`
		} `json:"usage"`
		Throttling struct {
			Periods   uint64 `json:"periods,omitempty"`
			Throttled uint64 `json:"throttledPeriods,omitempty"`
			Time      uint64 `json:"throttledTime,omitempty"`
		} `json:"throttling"`
		PSI *cgroup.Pressure `json:"psi,omitempty"`
	}
	memoryEntry struct {
		Limit   uint64 `json:"limit"`
		Usage   uint64 `json:"usage,omitempty"`
		Max     uint64 `json:"max,omitempty"`
		Failcnt uint64 `json:"failcnt"`
	}
	memoryJSON struct {
		Cache  uint64            `json:"cache,omitempty"`
		Usage  memoryEntry       `json:"usage"`
		Swap   memoryEntry       `json:"swap"`
		Kernel memoryEntry       `json:"kernel"`
		Raw    map[string]uint64 `json:"raw,omitempty"`
		PSI    *cgroup.Pressure  `json:"psi,omitempty"`
	}
	pidsJSON struct {
		Current uint64 `json:"current,omitempty"`
		Limit   uint64 `json:"limit,omitempty"`
	}
	ioJSON struct {
		Major uint64 `json:"major"`
		Minor uint64 `json:"minor"`
		Op    string `json:"op"`
		Value uint64 `json:"value"`
	}
	hugetlbJSON struct {
		Usage   uint64 `json:"usage,omitempty"`
		Max     uint64 `json:"max,omitempty"`
		Failcnt uint64 `json:"failcnt"`
	}
)

func statsOf(s *cgroup.Stats) statsJSON {
	out := statsJSON{Blkio: map[string][]ioJSON{}, Hugetlb: map[string]hugetlbJSON{}}
	out.CPU.Usage.Total, out.CPU.Usage.PerCPU = s.CPU.Usage, s.CPU.PerCPU
	out.CPU.Usage.Kernel, out.CPU.Usage.User = s.CPU.System, s.CPU.User
	out.CPU.Throttling.Periods, out.CPU.Throttling.Throttled, out.CPU.Throttling.Time = s.CPU.Periods, s.CPU.Throttled, s.CPU.ThrottledTime
	out.CPU.PSI, out.Memory.PSI = s.CPU.Pressure, s.Memory.Pressure
	m := s.Memory
	out.Memory.Cache = m.Raw["cache"] + m.Raw["file"]
	out.Memory.Usage = memoryEntry{m.Limit, m.Usage, m.Peak, m.Failed}
	out.Memory.Swap = memoryEntry{m.SwapLimit, m.SwapUsage, m.SwapPeak, m.SwapFailed}
	out.Memory.Kernel = memoryEntry{Usage: m.Kernel}
	out.Memory.Raw = m.Raw
	out.Pids.Current = s.Pids.Current
	if s.Pids.Limit != ^uint64(0) {
		out.Pids.Limit = s.Pids.Limit
	}
	names := map[string]string{"bytes": "ioServiceBytesRecursive", "ios": "ioServicedRecursive"}
	for _, e := range s.IO {
		out.Blkio[names[e.Kind]] = append(out.Blkio[names[e.Kind]], ioJSON{e.Major, e.Minor, strings.ToLower(e.Op), e.Value})
	}
	for size, h := range s.Hugetlb {
		out.Hugetlb[size] = hugetlbJSON{h.Usage, h.Peak, h.Failed}
	}
	return out
}
