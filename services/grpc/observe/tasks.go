package observe

import (
	"context"
	"sync"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/typeurl/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Task is one running task, to be measured.
type Task struct {
	Namespace, ID string
	// Stats asks its shim, which answers with the statistics of its cgroup.
	Stats func(ctx context.Context) (typeurl.Any, error)
}

const (
	// statWait bounds how long all shims together may take to answer.
	statWait = 3 * time.Second
	// statWorkers bounds how many are asked at once.
	statWorkers = 8
)

// tasks is a [prometheus.Collector] of what tasks use. Names are containerd's on
// cgroup v2 hosts; figures of v1 hosts are given in the same units.
type tasks struct {
	list func(ctx context.Context) ([]Task, error)
}

// NewTasks makes a collector of the tasks that list returns.
func NewTasks(list func(ctx context.Context) ([]Task, error)) prometheus.Collector {
	return &tasks{list}
}

func taskDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("container_"+name, help, []string{"namespace", "container_id"}, nil)
}

var (
	descTasks   = prometheus.NewDesc("orlop_tasks", "Tasks that have a shim.", []string{"namespace"}, nil)
	descCPU     = taskDesc("cpu_usage_usec_microseconds", "CPU time used.")
	descMemory  = taskDesc("memory_usage_bytes", "Memory in use, with the page cache.")
	descLimit   = taskDesc("memory_usage_limit_bytes", "The most memory that may be used.")
	descPids    = taskDesc("pids_current", "Processes and threads.")
	descPidsMax = taskDesc("pids_limit", "The most processes and threads there may be.")
	descOOM     = taskDesc("memory_oom_kill_total", "Processes killed since memory ran out.")
)

// Describe implements [prometheus.Collector].
func (c *tasks) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTasks, descCPU, descMemory, descLimit, descPids, descPidsMax, descOOM} {
		out <- d
	}
}

// Collect implements [prometheus.Collector]. A task that ends meanwhile, or whose
// shim doesn't answer in time, is left out.
func (c *tasks) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), statWait)
	defer cancel()
	all, err := c.list(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descTasks, err)
		return
	}
	count := map[string]int{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, statWorkers)
	for _, t := range all {
		count[t.Namespace]++
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			t.measure(ctx, out)
		})
	}
	wg.Wait()
	for ns, n := range count {
		out <- prometheus.MustNewConstMetric(descTasks, prometheus.GaugeValue, float64(n), ns)
	}
}

// usage is what both versions of cgroups tell.
type usage struct {
	cpu                                        float64 // microseconds
	memory, limit, pids, pidsLimit, oom        uint64
	hasMemory, hasLimit, hasPids, hasPidsLimit bool
}

func (t Task) measure(ctx context.Context, out chan<- prometheus.Metric) {
	any, err := t.Stats(ctx)
	if err != nil {
		return
	}
	u, ok := usageOf(any)
	if !ok {
		return
	}
	send := func(on bool, d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		if on {
			out <- prometheus.MustNewConstMetric(d, kind, v, t.Namespace, t.ID)
		}
	}
	send(true, descCPU, prometheus.CounterValue, u.cpu)
	send(u.hasMemory, descMemory, prometheus.GaugeValue, float64(u.memory))
	send(u.hasLimit, descLimit, prometheus.GaugeValue, float64(u.limit))
	send(u.hasPids, descPids, prometheus.GaugeValue, float64(u.pids))
	send(u.hasPidsLimit, descPidsMax, prometheus.GaugeValue, float64(u.pidsLimit))
	send(u.hasMemory, descOOM, prometheus.CounterValue, float64(u.oom))
}

func usageOf(any typeurl.Any) (usage, bool) {
	decoded, err := typeurl.UnmarshalAny(any)
	if err != nil {
		return usage{}, false
	}
	switch s := decoded.(type) {
	case *v1.Metrics:
		return usage{
			cpu:    float64(s.GetCPU().GetUsage().GetTotal()) / 1000,
			memory: s.GetMemory().GetUsage().GetUsage(), limit: s.GetMemory().GetUsage().GetLimit(),
			pids: s.GetPids().GetCurrent(), pidsLimit: s.GetPids().GetLimit(), oom: s.GetMemoryOomControl().GetOomKill(),
			hasMemory: s.Memory != nil, hasLimit: bounded(s.GetMemory().GetUsage().GetLimit()),
			hasPids: s.Pids != nil, hasPidsLimit: bounded(s.GetPids().GetLimit()),
		}, true
	case *v2.Metrics:
		return usage{
			cpu:    float64(s.GetCPU().GetUsageUsec()),
			memory: s.GetMemory().GetUsage(), limit: s.GetMemory().GetUsageLimit(),
			pids: s.GetPids().GetCurrent(), pidsLimit: s.GetPids().GetLimit(), oom: s.GetMemoryEvents().GetOomKill(),
			hasMemory: s.Memory != nil, hasLimit: bounded(s.GetMemory().GetUsageLimit()),
			hasPids: s.Pids != nil, hasPidsLimit: bounded(s.GetPids().GetLimit()),
		}, true
	}
	return usage{}, false
}

// bounded tells a limit from the kernel's ways to say that there is none: 0,
// the largest number, or (cgroup v1) the largest number of whole pages.
func bounded(n uint64) bool { return n > 0 && n < 1<<62 }
