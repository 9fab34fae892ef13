package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/containerd/api/services/content/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type blobRow struct {
	Digest    string            `json:"digest"`
	Size      int64             `json:"size"`
	CreatedAt time.Time         `json:"createdAt"`
	UpdatedAt time.Time         `json:"updatedAt"`
	Labels    map[string]string `json:"labels"`
}

type ingestRow struct {
	Ref       string    `json:"ref"`
	Offset    int64     `json:"offset"`
	Total     int64     `json:"total"`
	StartedAt time.Time `json:"startedAt"`
	UpdatedAt time.Time `json:"updatedAt"`
}

func blobOf(i *content.Info) blobRow {
	return blobRow{Digest: i.Digest, Size: i.Size, CreatedAt: when(i.CreatedAt), UpdatedAt: when(i.UpdatedAt), Labels: i.Labels}
}

func (a *app) contentCommand() *cobra.Command {
	ls := a.command("ls [FILTER...]", "List blobs", "  orlopctl content ls\n  orlopctl content ls 'labels.\"containerd.io/uncompressed\"'", 0, -1, a.contentList)
	var expected string
	ingest := a.command("ingest REF [FILE]", "Store a file, or the standard input", "  orlopctl content ingest layer-1 layer.tar.gz\n  tar c . | orlopctl content ingest tree", 1, 2,
		func(ctx context.Context, c *client.Client, args []string) error {
			return a.contentIngest(ctx, c, args, expected)
		})
	ingest.Flags().StringVar(&expected, "expected", "", "digest that it must have")
	get := a.command("get DIGEST", "Write a blob to the standard output", "  orlopctl content get sha256:… | tar tz", 1, 1,
		func(ctx context.Context, c *client.Client, args []string) error {
			return c.CopyBlob(ctx, args[0], a.out)
		})
	info := a.command("info DIGEST", "Show what is known about a blob", "  orlopctl content info sha256:…", 1, 1, a.contentInfo)
	info.Aliases = []string{"stat"}
	return a.parent("content", "Content is stored as blobs, named by their digest.", ls, get, info,
		a.command("rm DIGEST...", "Remove blobs from the namespace", "  orlopctl content rm sha256:…", 1, -1, a.contentRemove),
		a.command("label DIGEST KEY=VALUE|KEY-...", "Set and remove labels", "  orlopctl content label sha256:… containerd.io/gc.root=now", 2, -1, a.contentLabel),
		ingest,
		a.command("active", "List downloads and uploads under way", "  orlopctl content active", 0, 0, a.contentActive),
		a.command("abort REF...", "Drop downloads and uploads under way", "  orlopctl content abort layer-1", 1, -1, a.contentAbort),
	)
}

func (a *app) contentList(ctx context.Context, c *client.Client, filters []string) error {
	stream, err := content.NewContentClient(c.Conn()).List(ctx, &content.ListContentRequest{Filters: filters})
	if err != nil {
		return err
	}
	var rows []blobRow
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, i := range m.Info {
			rows = append(rows, blobOf(i))
		}
	}
	return list(a, rows,
		column[blobRow]{"DIGEST", func(b blobRow) string { return b.Digest }},
		column[blobRow]{"SIZE", func(b blobRow) string { return size(b.Size) }},
		column[blobRow]{"AGE", func(b blobRow) string { return age(b.CreatedAt) }},
		column[blobRow]{"LABELS", func(b blobRow) string { return labelText(b.Labels) }})
}

func (a *app) contentInfo(ctx context.Context, c *client.Client, args []string) error {
	r, err := content.NewContentClient(c.Conn()).Info(ctx, &content.InfoRequest{Digest: args[0]})
	if err != nil {
		return err
	}
	b := blobOf(r.Info)
	return a.show(b, "digest", b.Digest, "size", fmt.Sprintf("%s (%d bytes)", size(b.Size), b.Size),
		"created", b.CreatedAt.Format(time.RFC3339), "updated", b.UpdatedAt.Format(time.RFC3339), "labels", labelText(b.Labels))
}

func (a *app) contentRemove(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(digest string) error {
		_, err := content.NewContentClient(c.Conn()).Delete(ctx, &content.DeleteContentRequest{Digest: digest})
		return err
	})
}

func (a *app) contentLabel(ctx context.Context, c *client.Client, args []string) error {
	labels, paths, err := labelChanges(args[1:])
	if err != nil {
		return err
	}
	r, err := content.NewContentClient(c.Conn()).Update(ctx, &content.UpdateRequest{
		Info: &content.Info{Digest: args[0], Labels: labels}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
	})
	if err != nil {
		return err
	}
	return a.show(blobOf(r.Info), "labels", labelText(r.Info.Labels))
}

func (a *app) contentIngest(ctx context.Context, c *client.Client, args []string, expected string) error {
	in := a.in
	var total int64
	if len(args) == 2 && args[1] != "-" {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		in, total = f, info.Size()
	}
	digest, err := c.Ingest(ctx, args[0], in, total, expected)
	if err != nil {
		return err
	}
	return a.done(digest)
}

func (a *app) contentActive(ctx context.Context, c *client.Client, _ []string) error {
	r, err := content.NewContentClient(c.Conn()).ListStatuses(ctx, &content.ListStatusesRequest{})
	if err != nil {
		return err
	}
	var rows []ingestRow
	for _, s := range r.Statuses {
		rows = append(rows, ingestRow{s.Ref, s.Offset, s.Total, when(s.StartedAt), when(s.UpdatedAt)})
	}
	return list(a, rows,
		column[ingestRow]{"REF", func(i ingestRow) string { return i.Ref }},
		column[ingestRow]{"OFFSET", func(i ingestRow) string { return size(i.Offset) }},
		column[ingestRow]{"TOTAL", func(i ingestRow) string { return size(i.Total) }},
		column[ingestRow]{"AGE", func(i ingestRow) string { return age(i.StartedAt) }})
}

func (a *app) contentAbort(ctx context.Context, c *client.Client, args []string) error {
	return a.each(args, func(ref string) error {
		_, err := content.NewContentClient(c.Conn()).Abort(ctx, &content.AbortRequest{Ref: ref})
		return err
	})
}
