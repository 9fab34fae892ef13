package engine

import (
	"context"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
)

// Top lists a container's processes as ps with these arguments would, from /proc; without
// any as ps -ef.
func (e *Engine) Top(ctx context.Context, ref, args string) (head []string, rows [][]string, err error) {
	c, err := e.mustRun(ref)
	if err != nil {
		return nil, nil, err
	}
	list, err := parsePS(args)
	if err != nil {
		return nil, nil, err
	}
	ctx = e.in(ctx)
	t, err := e.Tasks.Get(ctx, c.ID)
	resp := &wire.PidsResponse{}
	if err == nil {
		err = t.Call(ctx, "Pids", &wire.PidsRequest{ID: c.ID}, resp)
	}
	if err != nil {
		return nil, nil, err
	}
	rows = [][]string{}
	boot, memory := bootTime(), memoryTotal()
	for _, pid := range resp.Processes {
		p := readProcess(int(pid.Pid), boot, memory)
		if p == nil {
			continue
		}
		row := make([]string, len(list))
		for i, col := range list {
			row[i] = columns[col.name].value(p)
		}
		rows = append(rows, row)
	}
	e.tell(c, "top")
	return titles(list), rows, nil
}

func bootTime() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Now()
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}
