package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/orlop/orlop/api/orlop/volume/v1"
	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type volumeRow struct {
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Mountpoint string            `json:"mountpoint"`
	Options    map[string]string `json:"options"`
	Labels     map[string]string `json:"labels"`
	Anonymous  bool              `json:"anonymous"`
	CreatedAt  time.Time         `json:"createdAt"`
	Containers []string          `json:"containers"`
	Size       *int64            `json:"size,omitempty"`
}

func newVolumeRow(v *volume.Volume) volumeRow {
	return volumeRow{v.Name, v.Driver, v.Mountpoint, v.Options, v.Labels, v.Anonymous, when(v.CreatedAt), v.Holders, v.Size}
}

func (a *app) volumesCommand() *cobra.Command {
	ls := a.command("ls", "List volumes", "  orlopctl volumes ls --size", 0, 0, nil)
	sizes := ls.Flags().Bool("size", false, "measure what each takes")
	a.work(ls, func(ctx context.Context, c *client.Client, _ []string) error { return a.volumesList(ctx, c, *sizes) })
	create := a.command("create [NAME] [LABEL=VALUE...]", "Create a volume", "  orlopctl volumes create data owner=me\n  orlopctl volumes create small --opt size=1g", 0, -1, nil)
	driver := create.Flags().String("driver", "", "driver that keeps it; local if empty")
	opts := create.Flags().StringArrayP("opt", "o", nil, "option of the driver, as KEY=VALUE")
	a.work(create, func(ctx context.Context, c *client.Client, args []string) error {
		return a.volumesCreate(ctx, c, args, &volume.CreateRequest{Driver: *driver}, *opts)
	})
	restore := a.command("restore NAME < ARCHIVE", "Put an archive's files into an empty volume: all, or none", "  orlopctl volumes restore --create data < data.tar", 1, 1, nil)
	make := restore.Flags().Bool("create", false, "make the volume if it isn't there")
	a.work(restore, func(ctx context.Context, c *client.Client, args []string) error {
		return a.volumesRestore(ctx, c, args[0], *make)
	})
	return a.parent("volumes", "A volume is a folder that outlives the containers that use it.",
		ls, create, restore,
		a.command("inspect NAME", "Show a volume", "  orlopctl volumes inspect data", 1, 1, a.volumesInspect),
		a.command("rm NAME...", "Remove volumes that no container names", "  orlopctl volumes rm data", 1, -1, a.volumesRemove),
		a.command("backup NAME > ARCHIVE", "Write a volume's files as a tar archive", "  orlopctl volumes backup data > data.tar", 1, 1, a.volumesBackup),
	)
}

func (a *app) volumesList(ctx context.Context, c *client.Client, sizes bool) error {
	r, err := volume.NewVolumesClient(c.Conn()).List(ctx, &volume.ListRequest{Sizes: sizes})
	if err != nil {
		return err
	}
	var rows []volumeRow
	for _, v := range r.Volumes {
		rows = append(rows, newVolumeRow(v))
	}
	columns := []column[volumeRow]{
		{"NAME", func(v volumeRow) string { return v.Name }},
		{"DRIVER", func(v volumeRow) string { return v.Driver }},
		{"AGE", func(v volumeRow) string { return age(v.CreatedAt) }},
		{"CONTAINERS", func(v volumeRow) string { return fmt.Sprint(len(v.Containers)) }},
	}
	if sizes {
		columns = append(columns, column[volumeRow]{"SIZE", func(v volumeRow) string { return size(*v.Size) }})
	}
	return list(a, rows, append(columns, column[volumeRow]{"LABELS", func(v volumeRow) string { return labelText(v.Labels) }})...)
}

func (a *app) volumesCreate(ctx context.Context, c *client.Client, args []string, req *volume.CreateRequest, opts []string) error {
	if len(args) > 0 && !strings.Contains(args[0], "=") {
		req.Name, args = args[0], args[1:]
	}
	var err error
	if req.Labels, err = newLabels(args); err == nil {
		req.Options, err = newLabels(opts)
	}
	if err != nil {
		return err
	}
	r, err := volume.NewVolumesClient(c.Conn()).Create(ctx, req)
	if err != nil {
		return err
	}
	return a.done(r.Volume.Name)
}

func (a *app) volumesInspect(ctx context.Context, c *client.Client, args []string) error {
	r, err := volume.NewVolumesClient(c.Conn()).Get(ctx, &volume.GetRequest{Name: args[0], Size: true})
	if err != nil {
		return err
	}
	v := newVolumeRow(r.Volume)
	return a.show(v, "name", v.Name, "driver", v.Driver, "mountpoint", v.Mountpoint, "options", labelText(v.Options), "labels", labelText(v.Labels),
		"created", v.CreatedAt.Format(time.RFC3339), "size", size(*v.Size), "containers", strings.Join(v.Containers, ", "))
}

func (a *app) volumesRemove(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(name string) error {
		_, err := volume.NewVolumesClient(c.Conn()).Remove(ctx, &volume.RemoveRequest{Name: name})
		return err
	})
}

func (a *app) volumesBackup(ctx context.Context, c *client.Client, args []string) error {
	in, err := volume.NewVolumesClient(c.Conn()).Backup(ctx, &volume.BackupRequest{Name: args[0]})
	if err != nil {
		return err
	}
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := a.out.Write(m.Data); err != nil {
			return err
		}
	}
}

// restoreChunk is how much of an archive is sent at once, in bytes.
const restoreChunk = 256 << 10

func (a *app) volumesRestore(ctx context.Context, c *client.Client, name string, create bool) error {
	out, err := volume.NewVolumesClient(c.Conn()).Restore(ctx)
	if err != nil {
		return err
	}
	if err := sendArchive(out.Send, a.in, &volume.RestoreRequest{Name: name, Create: create}); err != nil && !errors.Is(err, io.EOF) {
		return err
	} // what was wrong comes with the answer
	r, err := out.CloseAndRecv()
	if err != nil {
		return err
	}
	return a.done(r.Volume.Name)
}

func sendArchive(send func(*volume.RestoreRequest) error, in io.Reader, first *volume.RestoreRequest) error {
	if err := send(first); err != nil {
		return err
	}
	buf := make([]byte, restoreChunk)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if serr := send(&volume.RestoreRequest{Data: buf[:n]}); serr != nil {
				return serr
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("the archive can't be read: %w", err)
		}
	}
}
