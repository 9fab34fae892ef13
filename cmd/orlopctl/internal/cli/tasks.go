package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/internal/suggest"
	"github.com/orlop/orlop/services/spec"
)

type taskRow struct {
	Container  string    `json:"container"`
	PID        uint32    `json:"pid"`
	Status     string    `json:"status"`
	ExitStatus uint32    `json:"exitStatus"`
	ExitedAt   time.Time `json:"exitedAt"`
	Terminal   bool      `json:"terminal"`
}

func taskOf(p *task.Process) taskRow {
	id := p.ContainerID
	if id == "" {
		id = p.ID
	}
	return taskRow{id, p.Pid, strings.ToLower(p.Status.String()), p.ExitStatus, when(p.ExitedAt), p.Terminal}
}

func (a *app) tasksCommand() *cobra.Command {
	rm := a.command("delete CONTAINER...", "Remove tasks that have ended", "  orlopctl tasks delete web", 1, -1, a.tasksDelete)
	rm.Aliases = []string{"rm"}
	metrics := a.command("metrics [CONTAINER...]", "Show what containers use", "  orlopctl tasks metrics\n  orlopctl --json tasks metrics web", 0, -1, a.tasksMetrics)
	metrics.Aliases = []string{"stats"}
	return a.parent("tasks", "A task is the running process of a container, with those it started and those exec'ed into it.",
		a.startCommand(), a.execCommand(), a.attachCommand(), a.logsCommand(), a.killCommand(),
		a.command("ls", "List tasks", "  orlopctl tasks ls", 0, 0, a.tasksList),
		a.command("ps CONTAINER", "List the processes in a container", "  orlopctl tasks ps web", 1, 1, a.tasksPs),
		a.command("pause CONTAINER...", "Freeze all processes of containers", "  orlopctl tasks pause web", 1, -1, a.tasksPause),
		a.command("resume CONTAINER...", "Let frozen processes go on", "  orlopctl tasks resume web", 1, -1, a.tasksResume),
		rm, metrics, a.updateCommand(),
		a.command("wait CONTAINER", "Wait for a task and return its exit code", "  orlopctl tasks wait web", 1, 1, a.tasksWait),
	)
}

func (a *app) tasksList(ctx context.Context, c *client.Client, _ []string) error {
	r, err := tasks.NewTasksClient(c.Conn()).List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return err
	}
	var rows []taskRow
	for _, t := range r.Tasks {
		rows = append(rows, taskOf(t))
	}
	slices.SortFunc(rows, func(a, b taskRow) int { return strings.Compare(a.Container, b.Container) })
	return list(a, rows,
		column[taskRow]{"CONTAINER", func(r taskRow) string { return r.Container }},
		column[taskRow]{"PID", func(r taskRow) string { return fmt.Sprint(r.PID) }},
		column[taskRow]{"STATUS", taskRow.status})
}

func (r taskRow) status() string {
	if r.Status == "stopped" {
		return fmt.Sprintf("stopped (%d) %s ago", r.ExitStatus, age(r.ExitedAt))
	}
	return r.Status
}

type processRow struct {
	PID  uint32 `json:"pid"`
	Exec string `json:"exec"`
	Name string `json:"name"`
}

func (a *app) tasksPs(ctx context.Context, c *client.Client, args []string) error {
	r, err := tasks.NewTasksClient(c.Conn()).ListPids(ctx, &tasks.ListPidsRequest{ContainerID: args[0]})
	if err != nil {
		return err
	}
	var rows []processRow
	for _, p := range r.Processes {
		row := processRow{PID: p.Pid, Name: processName(p.Pid)}
		var d options.ProcessDetails
		if ok, err := client.Unpack(p.Info, &d); ok && err == nil {
			row.Exec = d.ExecID
		}
		rows = append(rows, row)
	}
	return list(a, rows,
		column[processRow]{"PID", func(r processRow) string { return fmt.Sprint(r.PID) }},
		column[processRow]{"EXEC", func(r processRow) string { return orDash(r.Exec) }},
		column[processRow]{"NAME", func(r processRow) string { return orDash(r.Name) }})
}

func (a *app) startCommand() *cobra.Command {
	var p processFlags
	cmd := a.command("start CONTAINER", "Start a container", "  orlopctl tasks start web\n  orlopctl tasks start -d web", 1, 1, nil)
	cmd.Flags().BoolVarP(&p.stdin, "interactive", "i", false, "pass the standard input on")
	cmd.Flags().BoolVarP(&p.detach, "detach", "d", false, "don't wait for the process")
	cmd.Flags().StringVar(&p.log, "log", "", "URI that takes the output: log:///var/log/x?max-size=10485760&max-file=5, file:///var/log/x or binary:///program")
	a.process(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		r, err := containers.NewContainersClient(c.Conn()).Get(ctx, &containers.GetContainerRequest{ID: args[0]})
		if err != nil {
			return err
		}
		s, err := client.Spec(r.Container)
		if err != nil {
			return err
		}
		p.tty = s.Process != nil && s.Process.Terminal
		var rootfs []*types.Mount
		if r.Container.SnapshotKey != "" {
			m, err := snapshots.NewSnapshotsClient(c.Conn()).Mounts(ctx, &snapshots.MountsRequest{
				Snapshotter: r.Container.Snapshotter, Key: r.Container.SnapshotKey,
			})
			if err != nil {
				return err
			}
			rootfs = m.Mounts
		}
		streams := p.io(a, args[0])
		proc, err := c.StartTask(ctx, args[0], rootfs, streams)
		if err != nil {
			return err
		}
		return a.attach(ctx, proc, streams, true)
	})
	return cmd
}

// attach waits for a process, unless it is detached, and removes what is left
// of it.
func (a *app) attach(ctx context.Context, p *client.Process, io client.IO, remove bool) error {
	if io.Detached || io.Log != "" {
		a.code = 0
		return nil
	}
	code, err := p.Attach(ctx)
	if err != nil {
		return err
	}
	a.code = code
	if remove {
		return p.Delete(ctx)
	}
	return nil
}

func (a *app) execCommand() *cobra.Command {
	var p processFlags
	cmd := a.command("exec [flags] CONTAINER COMMAND [ARG...]", "Run another process in a container",
		"  orlopctl tasks exec web ls /\n  orlopctl tasks exec -it web sh", 2, -1, nil)
	cmd.Long = "Exec runs another process in a running container. The exit code is the process's own; 127 if there is no such\ncommand, 126 if it can't be executed, 125 if anything else went wrong."
	p.register(cmd.Flags(), true)
	id := cmd.Flags().String("exec-id", "", "name of the process; default: one at random")
	cmd.Flags().SetInterspersed(false)
	a.process(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		r, err := containers.NewContainersClient(c.Conn()).Get(ctx, &containers.GetContainerRequest{ID: args[0]})
		if err != nil {
			return err
		}
		process, err := a.execProcess(ctx, c, r.Container, &p, args[1:])
		if err != nil {
			return err
		}
		name := *id
		if name == "" {
			name = "e" + newID()[1:]
		}
		streams := p.io(a, "")
		proc, err := c.Exec(ctx, args[0], name, process, streams)
		if err != nil {
			return err
		}
		return a.attach(ctx, proc, streams, true)
	})
	return cmd
}

func (a *app) attachCommand() *cobra.Command {
	var p processFlags
	cmd := a.command("attach CONTAINER", "Connect to the streams of a running task", "  orlopctl run -dit --id box busybox\n  orlopctl tasks attach -i box", 1, 1, nil)
	cmd.Flags().BoolVarP(&p.stdin, "interactive", "i", false, "pass the standard input on")
	a.process(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		proc, err := c.Reattach(ctx, args[0], p.io(a, ""))
		if err != nil {
			return err
		}
		return a.attach(ctx, proc, client.IO{}, false)
	})
	return cmd
}

func (a *app) killCommand() *cobra.Command {
	cmd := a.command("kill CONTAINER...", "Send a signal to tasks", "  orlopctl tasks kill web\n  orlopctl tasks kill -s KILL --all web", 1, -1, nil)
	name := cmd.Flags().StringP("signal", "s", "TERM", "signal, as name or number")
	all := cmd.Flags().Bool("all", false, "send it to all processes of the container")
	exec := cmd.Flags().String("exec-id", "", "send it to this exec'ed process")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		sig, err := parseSignal(*name)
		if err != nil {
			return err
		}
		return a.each(args, func(id string) error {
			_, err := tasks.NewTasksClient(c.Conn()).Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: *exec, Signal: uint32(sig), All: *all})
			return err
		})
	})
	return cmd
}

// parseSignal reads TERM, SIGTERM or 15.
func parseSignal(text string) (unix.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 64 {
		return unix.Signal(n), nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	var names []string
	for i := range 32 {
		if n := unix.SignalName(unix.Signal(i)); n != "" {
			names = append(names, n)
		}
	}
	if hint := suggest.Closest(name, names); hint != "" {
		return 0, fmt.Errorf("unknown signal %q (did you mean %q?)", text, hint)
	}
	return 0, fmt.Errorf("unknown signal %q", text)
}

func (a *app) tasksPause(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(id string) error {
		_, err := tasks.NewTasksClient(c.Conn()).Pause(ctx, &tasks.PauseTaskRequest{ContainerID: id})
		return err
	})
}

func (a *app) tasksResume(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(id string) error {
		_, err := tasks.NewTasksClient(c.Conn()).Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id})
		return err
	})
}

func (a *app) tasksDelete(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(id string) error {
		_, err := tasks.NewTasksClient(c.Conn()).Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		return err
	})
}

func (a *app) tasksWait(ctx context.Context, c *client.Client, args []string) error {
	r, err := tasks.NewTasksClient(c.Conn()).Wait(ctx, &tasks.WaitRequest{ContainerID: args[0]})
	if err != nil {
		return err
	}
	a.code = int(r.ExitStatus)
	row := taskRow{Container: args[0], Status: "stopped", ExitStatus: r.ExitStatus, ExitedAt: when(r.ExitedAt)}
	if a.json {
		return a.printJSON(row)
	}
	_, err = fmt.Fprintln(a.out, r.ExitStatus)
	return err
}

func (a *app) updateCommand() *cobra.Command {
	var res spec.Resources
	cmd := a.command("update CONTAINER", "Change the limits of a running container", "  orlopctl tasks update --memory 128M --cpus 2 web", 1, 1, nil)
	memory := cmd.Flags().StringP("memory", "m", "", "limit of memory, such as 64M")
	cmd.Flags().Float64Var(&res.CPUs, "cpus", 0, "number of processors, such as 1.5")
	cmd.Flags().Uint64Var(&res.CPUShares, "cpu-shares", 0, "weight of processor time; 1024 is normal")
	cmd.Flags().Int64Var(&res.PidsLimit, "pids-limit", 0, "limit of processes and threads")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		var err error
		if res.Memory, err = parseSize(*memory); err != nil {
			return err
		}
		limits, err := res.Limits()
		if err != nil {
			return err
		}
		if limits.Memory == nil && limits.CPU == nil && limits.Pids == nil {
			return errors.New("no limit is given")
		}
		return c.UpdateTask(ctx, args[0], limits)
	})
	return cmd
}
