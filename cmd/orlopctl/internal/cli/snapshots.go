package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type snapshotRow struct {
	Name        string            `json:"name"`
	Parent      string            `json:"parent"`
	Kind        string            `json:"kind"`
	Snapshotter string            `json:"snapshotter"`
	CreatedAt   time.Time         `json:"createdAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	Labels      map[string]string `json:"labels"`
}

func snapshotOf(ss string, i *snapshots.Info) snapshotRow {
	return snapshotRow{i.Name, i.Parent, strings.ToLower(i.Kind.String()), ss, when(i.CreatedAt), when(i.UpdatedAt), i.Labels}
}

// snapshotters is the noun's flag: which snapshotter is meant.
type snapshotters struct {
	a    *app
	flag *string
}

// names are the one given, or all of the daemon's.
func (s snapshotters) names(ctx context.Context, c *client.Client) []string {
	if *s.flag != "" {
		return []string{*s.flag}
	}
	return c.Snapshotters(ctx)
}

// find returns the snapshotter that has a snapshot, and what is known of it.
// Without a key it is the daemon's best snapshotter.
func (s snapshotters) find(ctx context.Context, c *client.Client, key string) (string, *snapshots.Info, error) {
	names := s.names(ctx, c)
	if len(names) == 0 {
		return "", nil, errors.New("the daemon has no snapshotter that works")
	}
	if key == "" {
		return names[0], nil, nil
	}
	var first error
	for _, name := range names {
		r, err := snapshots.NewSnapshotsClient(c.Conn()).Stat(ctx, &snapshots.StatSnapshotRequest{Snapshotter: name, Key: key})
		if err == nil {
			return name, r.Info, nil
		}
		if first == nil || status.Code(err) != codes.NotFound {
			first = err
		}
	}
	return "", nil, first
}

func (a *app) snapshotsCommand() *cobra.Command {
	s := snapshotters{a: a, flag: new(string)}
	rm := a.command("rm KEY...", "Remove snapshots", "  orlopctl snapshots rm mine", 1, -1, s.remove)
	cmd := a.parent("snapshots", "A snapshot is a file system tree: committed ones are parents of others, active ones can be written.",
		a.command("ls [FILTER...]", "List snapshots", "  orlopctl snapshots ls\n  orlopctl snapshots ls kind==active", 0, -1, s.list),
		a.command("tree", "Show which snapshot stands on which", "  orlopctl snapshots tree", 0, 0, s.tree),
		a.command("info KEY", "Show what is known about a snapshot", "  orlopctl snapshots info mine", 1, 1, s.info),
		a.command("prepare KEY [PARENT]", "Make a snapshot to write to", "  orlopctl snapshots prepare mine sha256:…", 1, 2, s.prepare),
		a.command("view KEY [PARENT]", "Make a snapshot to read from", "  orlopctl snapshots view mine sha256:…", 1, 2, s.view),
		a.command("commit NAME KEY", "Turn an active snapshot into a committed one", "  orlopctl snapshots commit base mine", 2, 2, s.commit),
		rm,
		a.command("mounts KEY [DIR]", "Print the mounts of a snapshot", "  orlopctl snapshots mounts mine /mnt | sh", 1, 2, s.mounts),
		a.command("usage [KEY...]", "Show the disk use of snapshots, without their parents", "  orlopctl snapshots usage", 0, -1, s.usage),
		a.command("label KEY KEY=VALUE|KEY-...", "Set and remove labels", "  orlopctl snapshots label mine keep=yes", 2, -1, s.label),
		s.diffCommand(),
		a.command("cleanup", "Remove what removed snapshots left on disk", "  orlopctl snapshots cleanup", 0, 0, s.cleanup),
	)
	cmd.PersistentFlags().StringVar(s.flag, "snapshotter", os.Getenv("ORLOP_SNAPSHOTTER"), "snapshotter; default: all, or the one that has the snapshot (ORLOP_SNAPSHOTTER)")
	return cmd
}

// all lists the snapshots of one snapshotter, or of all.
func (s snapshotters) all(ctx context.Context, c *client.Client, filters []string) ([]snapshotRow, error) {
	var rows []snapshotRow
	for _, name := range s.names(ctx, c) {
		some, err := snapshotsOf(ctx, c, name, filters)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	return rows, nil
}

func snapshotsOf(ctx context.Context, c *client.Client, name string, filters []string) ([]snapshotRow, error) {
	stream, err := snapshots.NewSnapshotsClient(c.Conn()).List(ctx, &snapshots.ListSnapshotsRequest{Snapshotter: name, Filters: filters})
	if err != nil {
		return nil, err
	}
	var rows []snapshotRow
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			slices.SortFunc(rows, func(a, b snapshotRow) int { return strings.Compare(a.Name, b.Name) })
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		for _, i := range m.Info {
			rows = append(rows, snapshotOf(name, i))
		}
	}
}

func (s snapshotters) list(ctx context.Context, c *client.Client, filters []string) error {
	rows, err := s.all(ctx, c, filters)
	if err != nil {
		return err
	}
	return list(s.a, rows,
		column[snapshotRow]{"KEY", func(r snapshotRow) string { return r.Name }},
		column[snapshotRow]{"PARENT", func(r snapshotRow) string { return orDash(short(r.Parent)) }},
		column[snapshotRow]{"KIND", func(r snapshotRow) string { return r.Kind }},
		column[snapshotRow]{"SNAPSHOTTER", func(r snapshotRow) string { return r.Snapshotter }},
		column[snapshotRow]{"AGE", func(r snapshotRow) string { return age(r.CreatedAt) }})
}

func (s snapshotters) tree(ctx context.Context, c *client.Client, _ []string) error {
	rows, err := s.all(ctx, c, nil)
	if err != nil {
		return err
	}
	if s.a.json {
		return list(s.a, rows)
	}
	for _, name := range s.names(ctx, c) {
		children := map[string][]snapshotRow{}
		for _, r := range rows {
			if r.Snapshotter == name {
				children[r.Parent] = append(children[r.Parent], r)
			}
		}
		if len(children) == 0 {
			continue
		}
		fmt.Fprintln(s.a.out, name)
		if err := drawTree(s.a.out, children, "", "", map[string]bool{}); err != nil {
			return err
		}
	}
	return nil
}

// drawTree prints the snapshots on a parent. A parent that is met again, which
// a broken daemon could tell of, is not followed.
func drawTree(w io.Writer, children map[string][]snapshotRow, parent, indent string, seen map[string]bool) error {
	if seen[parent] {
		return nil
	}
	seen[parent] = true
	list := children[parent]
	for i, r := range list {
		branch, below := "├─ ", "│  "
		if i == len(list)-1 {
			branch, below = "└─ ", "   "
		}
		if _, err := fmt.Fprintf(w, "%s%s%s (%s)\n", indent, branch, printable(r.Name), r.Kind); err != nil {
			return err
		}
		if err := drawTree(w, children, r.Name, indent+below, seen); err != nil {
			return err
		}
	}
	return nil
}

func (s snapshotters) info(ctx context.Context, c *client.Client, args []string) error {
	name, info, err := s.find(ctx, c, args[0])
	if err != nil {
		return err
	}
	i := snapshotOf(name, info)
	return s.a.show(i, "key", i.Name, "parent", orDash(i.Parent), "kind", i.Kind, "snapshotter", name,
		"created", i.CreatedAt.Format(time.RFC3339), "updated", i.UpdatedAt.Format(time.RFC3339), "labels", labelText(i.Labels))
}

// second is the optional second argument.
func second(args []string) string {
	if len(args) > 1 {
		return args[1]
	}
	return ""
}

// rootLabel keeps a snapshot that nothing else refers to from being collected.
func rootLabel() map[string]string {
	return map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}
}

func (s snapshotters) prepare(ctx context.Context, c *client.Client, args []string) error {
	name, _, err := s.find(ctx, c, second(args))
	if err != nil {
		return err
	}
	r, err := snapshots.NewSnapshotsClient(c.Conn()).Prepare(ctx, &snapshots.PrepareSnapshotRequest{
		Snapshotter: name, Key: args[0], Parent: second(args), Labels: rootLabel(),
	})
	return s.made(r.GetMounts(), err)
}

func (s snapshotters) view(ctx context.Context, c *client.Client, args []string) error {
	name, _, err := s.find(ctx, c, second(args))
	if err != nil {
		return err
	}
	r, err := snapshots.NewSnapshotsClient(c.Conn()).View(ctx, &snapshots.ViewSnapshotRequest{
		Snapshotter: name, Key: args[0], Parent: second(args), Labels: rootLabel(),
	})
	return s.made(r.GetMounts(), err)
}

func (s snapshotters) made(list []*types.Mount, err error) error {
	if err != nil {
		return err
	}
	return s.a.printMounts(client.Mounts(list), "/mnt")
}

func (s snapshotters) commit(ctx context.Context, c *client.Client, args []string) error {
	name, _, err := s.find(ctx, c, args[1])
	if err != nil {
		return err
	}
	_, err = snapshots.NewSnapshotsClient(c.Conn()).Commit(ctx, &snapshots.CommitSnapshotRequest{
		Snapshotter: name, Name: args[0], Key: args[1], Labels: rootLabel(),
	})
	if err != nil {
		return err
	}
	return s.a.done(args[0])
}

func (s snapshotters) remove(ctx context.Context, c *client.Client, args []string) error {
	return s.a.each(args, func(key string) error {
		name, _, err := s.find(ctx, c, key)
		if err != nil {
			return err
		}
		_, err = snapshots.NewSnapshotsClient(c.Conn()).Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: name, Key: key})
		return err
	})
}

func (s snapshotters) mounts(ctx context.Context, c *client.Client, args []string) error {
	name, _, err := s.find(ctx, c, args[0])
	if err != nil {
		return err
	}
	r, err := snapshots.NewSnapshotsClient(c.Conn()).Mounts(ctx, &snapshots.MountsRequest{Snapshotter: name, Key: args[0]})
	if err != nil {
		return err
	}
	dir := second(args)
	if dir == "" {
		dir = "/mnt"
	}
	return s.a.printMounts(client.Mounts(r.Mounts), dir)
}

type usageRow struct {
	Name        string `json:"name"`
	Snapshotter string `json:"snapshotter"`
	Size        int64  `json:"size"`
	Inodes      int64  `json:"inodes"`
}

func (s snapshotters) usage(ctx context.Context, c *client.Client, keys []string) error {
	var rows []usageRow
	for _, key := range keys {
		name, _, err := s.find(ctx, c, key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		rows = append(rows, usageRow{Name: key, Snapshotter: name})
	}
	if len(keys) == 0 {
		all, err := s.all(ctx, c, nil)
		if err != nil {
			return err
		}
		for _, r := range all {
			rows = append(rows, usageRow{Name: r.Name, Snapshotter: r.Snapshotter})
		}
	}
	for i, row := range rows {
		r, err := snapshots.NewSnapshotsClient(c.Conn()).Usage(ctx, &snapshots.UsageRequest{Snapshotter: row.Snapshotter, Key: row.Name})
		if err != nil {
			return fmt.Errorf("%s: %w", row.Name, err)
		}
		rows[i].Size, rows[i].Inodes = r.Size, r.Inodes
	}
	return list(s.a, rows,
		column[usageRow]{"KEY", func(r usageRow) string { return r.Name }},
		column[usageRow]{"SNAPSHOTTER", func(r usageRow) string { return r.Snapshotter }},
		column[usageRow]{"SIZE", func(r usageRow) string { return size(r.Size) }},
		column[usageRow]{"INODES", func(r usageRow) string { return fmt.Sprint(r.Inodes) }})
}

func (s snapshotters) label(ctx context.Context, c *client.Client, args []string) error {
	labels, paths, err := labelChanges(args[1:])
	if err != nil {
		return err
	}
	name, _, err := s.find(ctx, c, args[0])
	if err != nil {
		return err
	}
	r, err := snapshots.NewSnapshotsClient(c.Conn()).Update(ctx, &snapshots.UpdateSnapshotRequest{
		Snapshotter: name, Info: &snapshots.Info{Name: args[0], Labels: labels}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
	})
	if err != nil {
		return err
	}
	return s.a.show(snapshotOf(name, r.Info), "labels", labelText(r.Info.Labels))
}

func (s snapshotters) cleanup(ctx context.Context, c *client.Client, _ []string) error {
	for _, name := range s.names(ctx, c) {
		if _, err := snapshots.NewSnapshotsClient(c.Conn()).Cleanup(ctx, &snapshots.CleanupRequest{Snapshotter: name}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s snapshotters) diffCommand() *cobra.Command {
	cmd := s.a.command("diff KEY", "Store what a snapshot changes in its parent as a layer", "  orlopctl snapshots diff mine\n  orlopctl snapshots diff --raw mine | tar t", 1, 1, nil)
	mediaType := cmd.Flags().String("media-type", imagespec.MediaTypeImageLayerGzip, "media type of the layer")
	raw := cmd.Flags().Bool("raw", false, "write an uncompressed tar to the standard output")
	s.a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		if *raw {
			*mediaType = imagespec.MediaTypeImageLayer
		}
		d, err := s.diff(ctx, c, args[0], *mediaType)
		if err != nil {
			return err
		}
		if *raw {
			return c.CopyBlob(ctx, d.Digest, s.a.out)
		}
		return s.a.show(map[string]any{"digest": d.Digest, "mediaType": d.MediaType, "size": d.Size},
			"digest", d.Digest, "media type", d.MediaType, "size", size(d.Size))
	})
	return cmd
}

// diff compares a snapshot with its parent, of which it makes a view for that
// time.
func (s snapshotters) diff(ctx context.Context, c *client.Client, key, mediaType string) (*types.Descriptor, error) {
	api := snapshots.NewSnapshotsClient(c.Conn())
	name, info, err := s.find(ctx, c, key)
	if err != nil {
		return nil, err
	}
	view := func(of string) ([]*types.Mount, func(), error) {
		tmp := fmt.Sprintf("orlopctl-diff-%d-%d", os.Getpid(), time.Now().UnixNano())
		r, err := api.View(ctx, &snapshots.ViewSnapshotRequest{Snapshotter: name, Key: tmp, Parent: of})
		drop := func() {
			api.Remove(context.WithoutCancel(ctx), &snapshots.RemoveSnapshotRequest{Snapshotter: name, Key: tmp})
		}
		return r.GetMounts(), drop, err
	}
	left, drop, err := view(info.Parent)
	if err != nil {
		return nil, err
	}
	defer drop()
	var right []*types.Mount
	if info.Kind == snapshots.Kind_COMMITTED {
		var drop func()
		if right, drop, err = view(key); err != nil {
			return nil, err
		}
		defer drop()
	} else {
		r, err := api.Mounts(ctx, &snapshots.MountsRequest{Snapshotter: name, Key: key})
		if err != nil {
			return nil, err
		}
		right = r.Mounts
	}
	d, err := diff.NewDiffClient(c.Conn()).Diff(ctx, &diff.DiffRequest{Left: left, Right: right, MediaType: mediaType, Ref: "diff " + key})
	return d.GetDiff(), err
}
