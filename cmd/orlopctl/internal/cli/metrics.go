package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

// metricsRow is what a container uses, the same for both versions of cgroups.
type metricsRow struct {
	Container   string    `json:"container"`
	Time        time.Time `json:"time"`
	CPUUsec     uint64    `json:"cpuUsec"`
	Memory      uint64    `json:"memory"`
	MemoryLimit uint64    `json:"memoryLimit"`
	Pids        uint64    `json:"pids"`
	PidsLimit   uint64    `json:"pidsLimit"`
	ReadBytes   uint64    `json:"readBytes"`
	WriteBytes  uint64    `json:"writeBytes"`
	OOMKills    uint64    `json:"oomKills"`
}

func (a *app) tasksMetrics(ctx context.Context, c *client.Client, ids []string) error {
	var filters []string
	for _, id := range ids {
		filters = append(filters, fmt.Sprintf("id==%q", id))
	}
	r, err := tasks.NewTasksClient(c.Conn()).Metrics(ctx, &tasks.MetricsRequest{Filters: filters})
	if err != nil {
		return err
	}
	var rows []metricsRow
	for _, m := range r.Metrics {
		row, err := metricsOf(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.ID, err)
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b metricsRow) int { return strings.Compare(a.Container, b.Container) })
	return list(a, rows,
		column[metricsRow]{"CONTAINER", func(r metricsRow) string { return r.Container }},
		column[metricsRow]{"CPU", func(r metricsRow) string { return (time.Duration(r.CPUUsec) * time.Microsecond).String() }},
		column[metricsRow]{"MEMORY", func(r metricsRow) string { return withLimit(size(int64(r.Memory)), r.MemoryLimit, true) }},
		column[metricsRow]{"PIDS", func(r metricsRow) string { return withLimit(fmt.Sprint(r.Pids), r.PidsLimit, false) }},
		column[metricsRow]{"READ", func(r metricsRow) string { return size(int64(r.ReadBytes)) }},
		column[metricsRow]{"WRITTEN", func(r metricsRow) string { return size(int64(r.WriteBytes)) }},
		column[metricsRow]{"OOM KILLS", func(r metricsRow) string { return fmt.Sprint(r.OOMKills) }})
}

// unlimited is above any limit that somebody sets; cgroup v1 gives such numbers
// where there is none.
const unlimited = 1 << 60

func withLimit(value string, limit uint64, bytes bool) string {
	switch {
	case limit == 0 || limit > unlimited:
		return value
	case bytes:
		return value + " / " + size(int64(limit))
	}
	return fmt.Sprintf("%s / %d", value, limit)
}

func metricsOf(m *types.Metric) (metricsRow, error) {
	row := metricsRow{Container: m.ID, Time: when(m.Timestamp)}
	var two v2.Metrics
	if ok, err := client.Unpack(m.Data, &two); ok || err != nil {
		row.fromV2(&two)
		return row, err
	}
	var one v1.Metrics
	ok, err := client.Unpack(m.Data, &one)
	if err == nil && !ok {
		err = fmt.Errorf("metrics of unknown type %s", m.Data.GetTypeUrl())
	}
	row.fromV1(&one)
	return row, err
}

func (r *metricsRow) fromV2(m *v2.Metrics) {
	r.CPUUsec = m.GetCPU().GetUsageUsec()
	r.Memory, r.MemoryLimit = m.GetMemory().GetUsage(), m.GetMemory().GetUsageLimit()
	r.Pids, r.PidsLimit = m.GetPids().GetCurrent(), m.GetPids().GetLimit()
	for _, e := range m.GetIo().GetUsage() {
		r.ReadBytes += e.GetRbytes()
		r.WriteBytes += e.GetWbytes()
	}
	r.OOMKills = m.GetMemoryEvents().GetOomKill()
}

func (r *metricsRow) fromV1(m *v1.Metrics) {
	r.CPUUsec = m.GetCPU().GetUsage().GetTotal() / 1000
	r.Memory, r.MemoryLimit = m.GetMemory().GetUsage().GetUsage(), m.GetMemory().GetUsage().GetLimit()
	r.Pids, r.PidsLimit = m.GetPids().GetCurrent(), m.GetPids().GetLimit()
	for _, e := range m.GetBlkio().GetIoServiceBytesRecursive() {
		switch strings.ToLower(e.GetOp()) {
		case "read":
			r.ReadBytes += e.GetValue()
		case "write":
			r.WriteBytes += e.GetValue()
		}
	}
	r.OOMKills = m.GetMemoryOomControl().GetOomKill()
}
