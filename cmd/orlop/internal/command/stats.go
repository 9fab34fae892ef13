package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

// maxStats bounds containers that are asked at once.
const maxStats = 64

func statsCommand(s *session.Session) *cobra.Command {
	var all, once, noTrunc bool
	var format string
	c := &cobra.Command{Use: "stats [OPTIONS] [CONTAINER...]", Short: "Show what containers use", Args: usage(0, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			if format == "" {
				format = s.Config().StatsFormat
			}
			for {
				rows, err := sample(c.Context(), e, args, all, noTrunc)
				if err != nil {
					return ended(c.Context(), err)
				}
				if !once && s.Colour() {
					fmt.Fprint(s.Out, "\033[2J\033[H") // clear, go home
				}
				if err := statsList.Print(s, format, "", false, rows); err != nil || once {
					return err
				}
				select {
				case <-c.Context().Done():
					return nil
				case <-time.After(500 * time.Millisecond):
				}
			}
		}}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show stopped ones too")
	f.BoolVar(&once, "no-stream", false, "Print once")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole IDs")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	return c
}

var statsList = show.List{Columns: []string{"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"},
	Headers: map[string]string{"ID": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O"}}

// ended is an error, but that of a user who has had enough.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// sample asks every container once.
func sample(ctx context.Context, e *client.Client, ids []string, all, noTrunc bool) ([]show.Row, error) {
	if len(ids) == 0 {
		list, err := e.ContainerList(ctx, client.ContainerListOptions{All: all})
		if err != nil {
			return nil, err
		}
		for _, c := range list.Items {
			ids = append(ids, c.ID)
		}
	}
	var mu sync.Mutex
	rows := make([]show.Row, len(ids))
	var g errgroup.Group
	g.SetLimit(maxStats)
	for i, id := range ids {
		g.Go(func() error {
			got, err := e.ContainerStats(ctx, id, client.ContainerStatsOptions{IncludePreviousSample: true})
			if err != nil {
				if len(ids) > 1 && absent(err) {
					return nil // it has ended meanwhile
				}
				return err
			}
			defer got.Body.Close()
			var st container.StatsResponse
			if err := json.NewDecoder(io.LimitReader(got.Body, 1<<20)).Decode(&st); err != nil {
				return fmt.Errorf("stats of container %s: %w", id, err)
			}
			mu.Lock()
			rows[i] = statsRow(id, &st, noTrunc)
			mu.Unlock()
			return nil
		})
	}
	err := g.Wait()
	return slices.DeleteFunc(rows, func(r show.Row) bool { return r == nil }), err
}

func statsRow(ref string, st *container.StatsResponse, noTrunc bool) show.Row {
	id := st.ID
	if !noTrunc {
		id = short(id)
	}
	used := memory(&st.MemoryStats)
	var received, sent, read, written uint64
	for _, n := range st.Networks {
		received, sent = received+n.RxBytes, sent+n.TxBytes
	}
	for _, b := range st.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) {
		case "read":
			read += b.Value
		case "write":
			written += b.Value
		}
	}
	size := func(n uint64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	share := 0.0
	if st.MemoryStats.Limit > 0 {
		share = float64(used) / float64(st.MemoryStats.Limit) * 100
	}
	return show.Row{"Container": ref, "ID": id, "Name": strings.TrimPrefix(st.Name, "/"), "CPUPerc": fmt.Sprintf("%.2f%%", cpu(st)),
		"MemUsage": units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(st.MemoryStats.Limit)), "MemPerc": fmt.Sprintf("%.2f%%", share),
		"NetIO": size(received) + " / " + size(sent), "BlockIO": size(read) + " / " + size(written), "PIDs": fmt.Sprint(st.PidsStats.Current)}
}

// memory is what is used without the cache that can be dropped, as docker shows it.
func memory(m *container.MemoryStats) uint64 {
	for _, key := range []string{"total_inactive_file", "inactive_file"} {
		if v, ok := m.Stats[key]; ok && v < m.Usage {
			return m.Usage - v
		}
	}
	return m.Usage
}

// cpu is the share of one CPU's time, in percent.
func cpu(st *container.StatsResponse) float64 {
	spent := float64(st.CPUStats.CPUUsage.TotalUsage) - float64(st.PreCPUStats.CPUUsage.TotalUsage)
	passed := float64(st.CPUStats.SystemUsage) - float64(st.PreCPUStats.SystemUsage)
	if spent <= 0 || passed <= 0 {
		return 0
	}
	cpus := float64(st.CPUStats.OnlineCPUs)
	if cpus == 0 {
		cpus = float64(len(st.CPUStats.CPUUsage.PercpuUsage))
	}
	return spent / passed * cpus * 100
}
