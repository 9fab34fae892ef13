package cli

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type containerRow struct {
	ID          string            `json:"id"`
	Image       string            `json:"image"`
	Runtime     string            `json:"runtime"`
	Snapshotter string            `json:"snapshotter"`
	SnapshotKey string            `json:"snapshotKey"`
	Status      string            `json:"status"`
	PID         uint32            `json:"pid"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	Labels      map[string]string `json:"labels"`
	Spec        json.RawMessage   `json:"spec,omitempty"`
}

func containerOf(c *containers.Container) containerRow {
	return containerRow{
		ID: c.ID, Image: c.Image, Runtime: c.Runtime.GetName(), Snapshotter: c.Snapshotter, SnapshotKey: c.SnapshotKey,
		Status: "created", CreatedAt: when(c.CreatedAt), UpdatedAt: when(c.UpdatedAt), Labels: c.Labels,
	}
}

func (a *app) containersCommand() *cobra.Command {
	rm := a.command("rm CONTAINER...", "Remove containers and their snapshots", "  orlopctl containers rm web\n  orlopctl containers rm --force web", 1, -1, nil)
	force := rm.Flags().BoolP("force", "f", false, "kill a running task first")
	keep := rm.Flags().Bool("keep-snapshot", false, "leave the snapshot")
	a.work(rm, func(ctx context.Context, c *client.Client, args []string) error {
		return a.each(args, func(id string) error { return c.RemoveContainer(ctx, id, *force, *keep) })
	})
	info := a.command("info CONTAINER", "Show a container, with its OCI spec in JSON", "  orlopctl containers info web\n  orlopctl --json containers info web", 1, 1, a.containersInfo)
	info.Aliases = []string{"inspect"}
	return a.parent("containers", "A container is an OCI spec with a snapshot; a task is its running process.",
		a.createCommand(),
		a.command("ls [FILTER...]", "List containers", "  orlopctl containers ls\n  orlopctl containers ls 'labels.app==web'", 0, -1, a.containersList),
		info, rm,
		a.command("label CONTAINER KEY=VALUE|KEY-...", "Set and remove labels", "  orlopctl containers label web app=web", 2, -1, a.containersLabel),
	)
}

func (a *app) containersList(ctx context.Context, c *client.Client, filters []string) error {
	states := make(chan map[string]taskRow, 1)
	go func() { states <- taskStates(ctx, c) }()
	r, err := containers.NewContainersClient(c.Conn()).List(ctx, &containers.ListContainersRequest{Filters: filters})
	if err != nil {
		return err
	}
	tasks := <-states
	var rows []containerRow
	for _, m := range r.Containers {
		row := containerOf(m)
		if t, ok := tasks[m.ID]; ok {
			row.Status, row.PID = t.Status, t.PID
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b containerRow) int { return strings.Compare(a.ID, b.ID) })
	return list(a, rows,
		column[containerRow]{"CONTAINER", func(r containerRow) string { return r.ID }},
		column[containerRow]{"IMAGE", func(r containerRow) string { return orDash(r.Image) }},
		column[containerRow]{"STATUS", func(r containerRow) string { return r.Status }},
		column[containerRow]{"RUNTIME", func(r containerRow) string { return r.Runtime }},
		column[containerRow]{"AGE", func(r containerRow) string { return age(r.CreatedAt) }})
}

// taskStates are the tasks by their container; none if they can't be listed.
func taskStates(ctx context.Context, c *client.Client) map[string]taskRow {
	out := map[string]taskRow{}
	r, err := tasks.NewTasksClient(c.Conn()).List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return out
	}
	for _, t := range r.Tasks {
		out[t.ID] = taskOf(t)
	}
	return out
}

func (a *app) containersInfo(ctx context.Context, c *client.Client, args []string) error {
	r, err := containers.NewContainersClient(c.Conn()).Get(ctx, &containers.GetContainerRequest{ID: args[0]})
	if err != nil {
		return err
	}
	row := containerOf(r.Container)
	if t, ok := taskStates(ctx, c)[args[0]]; ok {
		row.Status, row.PID = t.Status, t.PID
	}
	row.Spec = json.RawMessage(r.Container.Spec.GetValue())
	lines := []string{"container", row.ID, "image", orDash(row.Image), "status", row.Status, "runtime", row.Runtime,
		"snapshot", orDash(strings.Trim(row.Snapshotter+" "+row.SnapshotKey, " ")), "created", row.CreatedAt.Format(time.RFC3339), "labels", labelText(row.Labels)}
	if s, err := client.Spec(r.Container); err == nil && s.Process != nil {
		lines = append(lines, "command", strings.Join(s.Process.Args, " "), "working folder", s.Process.Cwd)
	}
	return a.show(row, lines...)
}

func (a *app) containersLabel(ctx context.Context, c *client.Client, args []string) error {
	labels, paths, err := labelChanges(args[1:])
	if err != nil {
		return err
	}
	r, err := containers.NewContainersClient(c.Conn()).Update(ctx, &containers.UpdateContainerRequest{
		Container: &containers.Container{ID: args[0], Labels: labels}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
	})
	if err != nil {
		return err
	}
	return a.show(containerOf(r.Container), "labels", labelText(r.Container.Labels))
}
