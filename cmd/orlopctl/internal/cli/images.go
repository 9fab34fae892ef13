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

	"github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
)

type imageRow struct {
	Name      string            `json:"name"`
	Digest    string            `json:"digest"`
	MediaType string            `json:"mediaType"`
	Size      int64             `json:"size"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
	Labels    map[string]string `json:"labels"`
}

func imageOf(i *images.Image) imageRow {
	return imageRow{i.Name, i.Target.GetDigest(), i.Target.GetMediaType(), i.Target.GetSize(), when(i.CreatedAt), when(i.UpdatedAt), i.Labels}
}

func (a *app) imagesCommand() *cobra.Command {
	inspect := a.command("inspect IMAGE", "Show an image's config, platform and layers", "  orlopctl images inspect busybox", 1, 1, a.imagesInspect)
	inspect.Aliases = []string{"config"}
	rm := a.command("rm IMAGE...", "Remove names of images", "  orlopctl images rm busybox\n  orlopctl images rm --sync busybox", 1, -1, nil)
	sync := rm.Flags().Bool("sync", false, "wait until what nobody needs any more has been collected")
	a.work(rm, func(ctx context.Context, c *client.Client, args []string) error {
		return a.imagesRemove(ctx, c, args, *sync)
	})
	check := a.command("check [IMAGE...]", "Tell whether images are complete and unpacked", "  orlopctl images check", 0, -1, a.imagesCheck)
	return a.parent("images", "An image is a name for a manifest, or for an index of manifests for several platforms.",
		a.pullCommand(), a.pushCommand(), a.importCommand(), a.exportCommand(),
		a.command("ls [FILTER...]", "List images", "  orlopctl images ls\n  orlopctl images ls 'name~=busybox'", 0, -1, a.imagesList),
		rm, a.tagCommand(),
		a.command("label IMAGE KEY=VALUE|KEY-...", "Set and remove labels", "  orlopctl images label busybox keep=yes", 2, -1, a.imagesLabel),
		inspect, check, a.mountCommand(),
		a.command("unmount DIR", "Undo a mount of an image", "  orlopctl images unmount /mnt", 1, 1, a.imagesUnmount),
	)
}

func (a *app) imagesList(ctx context.Context, c *client.Client, filters []string) error {
	r, err := images.NewImagesClient(c.Conn()).List(ctx, &images.ListImagesRequest{Filters: filters})
	if err != nil {
		return err
	}
	var rows []imageRow
	for _, i := range r.Images {
		rows = append(rows, imageOf(i))
	}
	slices.SortFunc(rows, func(a, b imageRow) int { return strings.Compare(a.Name, b.Name) })
	return list(a, rows,
		column[imageRow]{"NAME", func(i imageRow) string { return i.Name }},
		column[imageRow]{"DIGEST", func(i imageRow) string { return short(i.Digest) }},
		column[imageRow]{"TYPE", func(i imageRow) string { return typeWord(i.MediaType) }},
		column[imageRow]{"AGE", func(i imageRow) string { return age(i.CreatedAt) }},
		column[imageRow]{"LABELS", func(i imageRow) string { return labelText(i.Labels) }})
}

// typeWord names a manifest's media type in a word.
func typeWord(mediaType string) string {
	switch {
	case strings.Contains(mediaType, "index"), strings.Contains(mediaType, "manifest.list"):
		return "index"
	case strings.Contains(mediaType, "manifest"):
		return "manifest"
	}
	return mediaType
}

func (a *app) imagesRemove(ctx context.Context, c *client.Client, args []string, sync bool) error {
	return a.each(args, func(name string) error {
		i, err := c.Find(ctx, name)
		if err != nil {
			return err
		}
		_, err = images.NewImagesClient(c.Conn()).Delete(ctx, &images.DeleteImageRequest{Name: i.Name, Sync: sync})
		return err
	})
}

func (a *app) imagesLabel(ctx context.Context, c *client.Client, args []string) error {
	labels, paths, err := labelChanges(args[1:])
	if err != nil {
		return err
	}
	i, err := c.Find(ctx, args[0])
	if err != nil {
		return err
	}
	r, err := images.NewImagesClient(c.Conn()).Update(ctx, &images.UpdateImageRequest{
		Image: &images.Image{Name: i.Name, Labels: labels, Target: i.Target}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
	})
	if err != nil {
		return err
	}
	return a.show(imageOf(r.Image), "labels", labelText(r.Image.Labels))
}

type imageDetail struct {
	Name        string                `json:"name"`
	Target      string                `json:"target"`
	Manifest    string                `json:"manifest"`
	Platform    string                `json:"platform"`
	ChainID     string                `json:"chainID"`
	Snapshots   map[string]string     `json:"snapshots"`
	Size        int64                 `json:"size"`
	Layers      []string              `json:"layers"`
	Created     *time.Time            `json:"created,omitempty"`
	Config      imagespec.ImageConfig `json:"config"`
	History     []imagespec.History   `json:"history"`
	Annotations map[string]string     `json:"annotations,omitempty"`
}

func (a *app) imagesInspect(ctx context.Context, c *client.Client, args []string) error {
	img, err := c.Image(ctx, args[0], "")
	if err != nil {
		return err
	}
	d := imageDetail{
		Name: img.Name, Target: img.Target.Digest, Manifest: img.ManifestDigest, ChainID: img.ChainID(), Snapshots: img.Unpacked,
		Platform: strings.TrimSuffix(img.Config.OS+"/"+img.Config.Architecture+"/"+img.Config.Variant, "/"),
		Created:  img.Config.Created, Config: img.Config.Config, History: img.Config.History, Annotations: img.Manifest.Annotations,
	}
	for _, l := range img.Manifest.Layers {
		d.Size += l.Size
		d.Layers = append(d.Layers, l.Digest.String())
	}
	where := "-"
	if s := img.Snapshotter(); s != "" {
		where = s
	}
	return a.show(d, "name", d.Name, "target", d.Target, "manifest", d.Manifest, "platform", d.Platform, "chain ID", d.ChainID,
		"unpacked with", where, "size", fmt.Sprintf("%s in %d layers", size(d.Size), len(d.Layers)), "user", orDash(d.Config.User),
		"working folder", orDash(d.Config.WorkingDir), "entrypoint", orDash(strings.Join(d.Config.Entrypoint, " ")),
		"command", orDash(strings.Join(d.Config.Cmd, " ")), "environment", orDash(strings.Join(d.Config.Env, " ")))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type checkRow struct {
	Name     string   `json:"name"`
	Complete bool     `json:"complete"`
	Missing  []string `json:"missing"`
	Unpacked []string `json:"unpacked"`
	Error    string   `json:"error,omitempty"`
}

// imagesCheck looks for the blobs of each image; one that lacks some makes the
// exit code 1.
func (a *app) imagesCheck(ctx context.Context, c *client.Client, names []string) error {
	if len(names) == 0 {
		r, err := images.NewImagesClient(c.Conn()).List(ctx, &images.ListImagesRequest{})
		if err != nil {
			return err
		}
		for _, i := range r.Images {
			names = append(names, i.Name)
		}
		slices.Sort(names)
	}
	var rows []checkRow
	bad := 0
	for _, name := range names {
		row := a.check(ctx, c, name)
		if !row.Complete {
			bad++
		}
		rows = append(rows, row)
	}
	err := list(a, rows,
		column[checkRow]{"NAME", func(r checkRow) string { return r.Name }},
		column[checkRow]{"STATUS", checkRow.status},
		column[checkRow]{"UNPACKED", func(r checkRow) string { return orDash(strings.Join(r.Unpacked, ",")) }})
	if err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d images are not complete", bad, len(rows))
	}
	return err
}

func (r checkRow) status() string {
	switch {
	case r.Error != "":
		return r.Error
	case !r.Complete:
		return fmt.Sprintf("lacks %d blobs: %s", len(r.Missing), strings.Join(r.Missing, ","))
	}
	return "complete"
}

func (a *app) check(ctx context.Context, c *client.Client, name string) checkRow {
	row := checkRow{Name: name, Missing: []string{}, Unpacked: []string{}}
	img, err := c.Image(ctx, name, "")
	if err != nil {
		row.Error = a.explain(err)
		return row
	}
	row.Name = img.Name
	api := content.NewContentClient(c.Conn())
	for _, l := range img.Manifest.Layers {
		_, err := api.Info(ctx, &content.InfoRequest{Digest: l.Digest.String()})
		if status.Code(err) == codes.NotFound {
			row.Missing = append(row.Missing, l.Digest.String())
		} else if err != nil {
			row.Error = a.explain(err)
		}
	}
	for ss, chain := range img.Unpacked {
		_, err := snapshots.NewSnapshotsClient(c.Conn()).Stat(ctx, &snapshots.StatSnapshotRequest{Snapshotter: ss, Key: chain})
		if err == nil {
			row.Unpacked = append(row.Unpacked, ss)
		}
	}
	slices.Sort(row.Unpacked)
	row.Complete = len(row.Missing) == 0 && row.Error == ""
	return row
}

func (a *app) mountCommand() *cobra.Command {
	cmd := a.command("mount IMAGE DIR", "Mount an image's files", "  orlopctl images mount busybox /mnt\n  orlopctl images mount --rw busybox /mnt", 2, 2, nil)
	rw := cmd.Flags().Bool("rw", false, "mount it writable; changes are kept until unmount")
	ss := cmd.Flags().String("snapshotter", "", "snapshotter to use; default: one the image is unpacked in")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		return a.imagesMount(ctx, c, args[0], args[1], *ss, *rw)
	})
	return cmd
}

// imagesMount makes a snapshot that is named for the folder, so that unmount
// finds it; it is a root for the collector until then.
func (a *app) imagesMount(ctx context.Context, c *client.Client, name, dir, snapshotter string, rw bool) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	img, err := c.Image(ctx, name, "")
	if err != nil {
		return err
	}
	if snapshotter == "" {
		snapshotter = img.Snapshotter()
	}
	parent, ok := img.Unpacked[snapshotter]
	if !ok {
		return fmt.Errorf("image %s is not unpacked; pull it, or run it once", img.Name)
	}
	labels := map[string]string{"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339)}
	api := snapshots.NewSnapshotsClient(c.Conn())
	var list []*types.Mount
	if rw {
		r, e := api.Prepare(ctx, &snapshots.PrepareSnapshotRequest{Snapshotter: snapshotter, Key: dir, Parent: parent, Labels: labels})
		list, err = r.GetMounts(), e
	} else {
		r, e := api.View(ctx, &snapshots.ViewSnapshotRequest{Snapshotter: snapshotter, Key: dir, Parent: parent, Labels: labels})
		list, err = r.GetMounts(), e
	}
	if err != nil {
		return err
	}
	if err := mounts.All(client.Mounts(list), dir); err != nil {
		_, undo := api.Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: dir})
		return errors.Join(err, undo)
	}
	return a.done(dir)
}

func (a *app) imagesUnmount(ctx context.Context, c *client.Client, args []string) error {
	dir, err := absolute(args[0])
	if err != nil {
		return err
	}
	if err := mounts.UnmountAll(dir, false); err != nil {
		return err
	}
	removed := false
	for _, ss := range c.Snapshotters(ctx) {
		_, err := snapshots.NewSnapshotsClient(c.Conn()).Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: ss, Key: dir})
		removed = removed || err == nil
	}
	if !removed {
		return fmt.Errorf("%s: unmounted, but no snapshot is named for it", dir)
	}
	return a.done(dir)
}

func absolute(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no folder", dir)
	}
	return realPath(dir)
}

// printMounts prints mounts in the words of mount(8).
func (a *app) printMounts(list []mount.Mount, target string) error {
	if a.json {
		rows := []mountRow{}
		for _, m := range list {
			rows = append(rows, mountRow(m))
		}
		return a.printJSON(rows)
	}
	for _, m := range list {
		_, err := io.WriteString(a.out, fmt.Sprintf("mount -t %s %s %s%s -o %s\n", m.Type, m.Source, target, m.Target, strings.Join(m.Options, ",")))
		if err != nil {
			return err
		}
	}
	return nil
}

type mountRow struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Target  string   `json:"target"`
	Options []string `json:"options"`
}
