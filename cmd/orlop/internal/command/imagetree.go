package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
)

// imageTree shows images with the platforms that they are for, and what of those is here.
func imageTree(w io.Writer, list []image.Summary) error {
	out := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(out, "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tIN USE")
	for _, img := range list {
		parts := slices.DeleteFunc(slices.Clone(img.Manifests), func(m image.ManifestSummary) bool { return m.Kind != image.ManifestKindImage })
		var total, content int64
		used := img.Containers > 0
		for _, m := range img.Manifests {
			total, content = total+m.Size.Total, content+m.Size.Content
		}
		treeLine(out, strings.Join(treeNames(img), ", "), img.ID, total, content, used)
		for i, m := range parts {
			branch := "├─ "
			if i == len(parts)-1 {
				branch = "└─ "
			}
			treeLine(out, branch+platforms.FormatAll(m.ImageData.Platform), m.ID, m.Size.Total, m.Size.Content, len(m.ImageData.Containers) > 0)
		}
	}
	return out.Flush()
}

func treeNames(img image.Summary) []string {
	if len(img.RepoTags) == 0 {
		return []string{"<untagged>"}
	}
	return img.RepoTags
}

func treeLine(w io.Writer, name, id string, total, content int64, used bool) {
	mark := ""
	if used {
		mark = "yes"
	}
	fmt.Fprintf(w, "%s\t%.12s\t%s\t%s\t%s\n", name, strings.TrimPrefix(id, "sha256:"), units.HumanSizeWithPrecision(float64(total), 3), units.HumanSizeWithPrecision(float64(content), 3), mark)
}
