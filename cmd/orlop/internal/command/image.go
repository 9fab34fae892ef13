package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/jsonmessage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

func imageNoun(s *session.Session) *cobra.Command {
	return noun("image", "Manage images", buildCommand(s), historyCommand(s), importCommand(s), inspectImage(s), loadCommand(s),
		named("ls", imagesCommand(s), "list"), pruneImages(s), pullCommand(s), pushCommand(s), named("rm", rmiCommand(s), "remove"), saveCommand(s), tagCommand(s))
}

func imagesCommand(s *session.Session) *cobra.Command {
	var all, quiet, noTrunc, digests, tree bool
	var format string
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "images [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", Args: usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			f := filter.Value()
			if len(args) > 0 {
				f = f.Clone().Add("reference", args[0])
			}
			found, err := e.ImageList(c.Context(), client.ImageListOptions{All: all, Filters: f, Manifests: tree})
			if err != nil {
				return err
			}
			if tree {
				return imageTree(s.Out, found.Items)
			}
			if format == "" && !quiet {
				format = s.Config().ImagesFormat
			}
			if format == "" {
				format = formatter.TableFormatKey
			}
			return formatter.ImageWrite(formatter.ImageContext{Digest: digests, Context: formatter.Context{Output: s.Out, Trunc: !noTrunc,
				Format: formatter.NewImageFormat(format, quiet, digests)}}, found.Items)
		}}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show intermediate ones too")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print IDs only")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole IDs")
	f.BoolVar(&digests, "digests", false, "Show digests")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.VarP(&filter, "filter", "f", "Show those that match (key=value)")
	f.BoolVar(&tree, "tree", false, "Show the platforms of each")
	for _, other := range []string{"quiet", "no-trunc", "digests", "format"} {
		c.MarkFlagsMutuallyExclusive("tree", other)
	}
	return c
}

type pulling struct {
	ref, platform string
	all, quiet    bool
	untold        bool // that a default tag is used
	out           io.Writer
}

func pullCommand(s *session.Session) *cobra.Command {
	p := pulling{out: s.Out}
	c := &cobra.Command{Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Fetch an image from a registry", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			p.ref = args[0]
			if err := pull(c.Context(), s, p); err != nil {
				return err
			}
			named, err := reference.ParseNormalizedNamed(p.ref)
			if err == nil {
				s.Printf("%s\n", reference.TagNameOnly(named))
			}
			return nil
		}}
	f := c.Flags()
	f.BoolVarP(&p.all, "all-tags", "a", false, "Fetch every tag of the repository")
	f.BoolVarP(&p.quiet, "quiet", "q", false, "Show no progress")
	f.StringVar(&p.platform, "platform", "", "Platform, if the image has several")
	f.Bool("disable-content-trust", true, "No effect")
	f.MarkHidden("disable-content-trust")
	return c
}

func pull(ctx context.Context, s *session.Session, p pulling) error {
	named, err := reference.ParseNormalizedNamed(p.ref)
	if err != nil {
		return err
	}
	if p.all && !reference.IsNameOnly(named) {
		return errors.New("tag can't be used with --all-tags/-a")
	}
	if !p.all && reference.IsNameOnly(named) {
		named = reference.TagNameOnly(named)
		if tagged, ok := named.(reference.Tagged); ok && !p.quiet && !p.untold {
			fmt.Fprintf(p.out, "Using default tag: %s\n", tagged.Tag())
		}
	}
	auth, err := s.AuthFor(p.ref)
	if err != nil {
		return err
	}
	o := client.ImagePullOptions{All: p.all, RegistryAuth: auth}
	if p.platform != "" {
		platform, err := platforms.Parse(p.platform)
		if err != nil {
			return err
		}
		o.Platforms = []ocispec.Platform{platform}
	}
	e, err := s.Engine()
	if err != nil {
		return err
	}
	in, err := e.ImagePull(ctx, reference.FamiliarString(named), o)
	if err != nil {
		return err
	}
	defer in.Close()
	return progress(in, p.out, p.quiet)
}

// progress shows what a stream of messages tells: bars on a terminal, lines else.
func progress(in io.Reader, out io.Writer, quiet bool) error {
	if quiet {
		out = io.Discard
	}
	return jsonmessage.DisplayStream(in, out)
}

func pushCommand(s *session.Session) *cobra.Command {
	var all, quiet bool
	var platform string
	c := &cobra.Command{Use: "push [OPTIONS] NAME[:TAG]", Short: "Send an image to a registry", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			named, err := reference.ParseNormalizedNamed(args[0])
			if err != nil {
				return err
			}
			if all && !reference.IsNameOnly(named) {
				return errors.New("tag can't be used with --all-tags/-a")
			}
			if !all {
				named = reference.TagNameOnly(named)
			}
			auth, err := s.AuthFor(args[0])
			if err != nil {
				return err
			}
			o := client.ImagePushOptions{All: all, RegistryAuth: auth}
			if platform != "" {
				p, err := platforms.Parse(platform)
				if err != nil {
					return err
				}
				o.Platform = &p
			}
			e, err := s.Engine()
			if err != nil {
				return err
			}
			in, err := e.ImagePush(c.Context(), reference.FamiliarString(named), o)
			if err != nil {
				return err
			}
			defer in.Close()
			if err := progress(in, s.Out, quiet); err != nil {
				return err
			}
			if quiet {
				s.Printf("%s\n", named)
			}
			return nil
		}}
	f := c.Flags()
	f.BoolVarP(&all, "all-tags", "a", false, "Send every tag of the repository")
	f.BoolVarP(&quiet, "quiet", "q", false, "Show no progress")
	f.StringVar(&platform, "platform", "", "Send one platform only")
	f.Bool("disable-content-trust", true, "No effect")
	f.MarkHidden("disable-content-trust")
	return c
}

func tagCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Give an image another name", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			_, err = e.ImageTag(c.Context(), client.ImageTagOptions{Source: args[0], Target: args[1]})
			return err
		}}
}

func rmiCommand(s *session.Session) *cobra.Command {
	var o client.ImageRemoveOptions
	var noPrune bool
	var platform []string
	c := &cobra.Command{Use: "rmi [OPTIONS] IMAGE [IMAGE...]", Short: "Remove images", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			o.PruneChildren = !noPrune
			if o.Platforms, err = parsePlatforms(platform); err != nil {
				return err
			}
			return s.Each(c.Context(), args, func(ctx context.Context, image string) error {
				got, err := e.ImageRemove(ctx, image, o)
				for _, d := range got.Items {
					if d.Deleted != "" {
						s.Printf("Deleted: %s\n", d.Deleted)
					} else {
						s.Printf("Untagged: %s\n", d.Untagged)
					}
				}
				if err != nil && o.Force && strings.Contains(err.Error(), "No such image") {
					fmt.Fprintln(s.Err, session.Message(err))
					return nil
				}
				return err
			})
		}}
	f := c.Flags()
	f.BoolVarP(&o.Force, "force", "f", false, "Remove it though containers use it")
	f.BoolVar(&noPrune, "no-prune", false, "Keep untagged parents")
	f.StringSliceVar(&platform, "platform", nil, "Remove these platforms only")
	return c
}

func historyCommand(s *session.Session) *cobra.Command {
	var human, noTrunc, quiet bool
	var format, platform string
	c := &cobra.Command{Use: "history [OPTIONS] IMAGE", Short: "List how an image was made", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			var o []client.ImageHistoryOption
			if platform != "" {
				p, err := platforms.Parse(platform)
				if err != nil {
					return err
				}
				o = append(o, client.ImageHistoryWithPlatform(p))
			}
			found, err := e.ImageHistory(c.Context(), args[0], o...)
			if err != nil {
				return err
			}
			var rows []show.Row
			for _, h := range found.Items {
				created := time.Unix(h.Created, 0)
				r := show.Row{"ID": h.ID, "CreatedBy": strings.ReplaceAll(h.CreatedBy, "\t", " "), "CreatedAt": created.Format(time.RFC3339),
					"CreatedSince": created.Format(time.RFC3339), "Size": fmt.Sprint(h.Size), "Comment": h.Comment, "Tags": h.Tags}
				if !noTrunc {
					r["ID"], r["CreatedBy"] = short(h.ID), formatter.Ellipsis(r["CreatedBy"].(string), 45)
				}
				if human {
					r["Size"] = units.HumanSizeWithPrecision(float64(h.Size), 3)
					r["CreatedSince"] = ""
					if h.Created > 0 {
						r["CreatedSince"] = units.HumanDuration(time.Since(created)) + " ago"
					}
				}
				rows = append(rows, r)
			}
			return show.List{Columns: []string{"ID", "CreatedSince", "CreatedBy", "Size", "Comment"},
				Headers: map[string]string{"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY"}}.Print(s, format, "", quiet, rows)
		}}
	f := c.Flags()
	f.BoolVarP(&human, "human", "H", true, "Print sizes and times for people")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole commands")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print IDs only")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.StringVar(&platform, "platform", "", "Platform, if the image has several")
	return c
}

func inspectImage(s *session.Session) *cobra.Command {
	var format, platform string
	c := &cobra.Command{Use: "inspect [OPTIONS] IMAGE [IMAGE...]", Short: "Print details of images", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			var o []client.ImageInspectOption
			if platform != "" {
				p, err := platforms.Parse(platform)
				if err != nil {
					return err
				}
				o = append(o, client.ImageInspectWithPlatform(&p))
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				var raw bytes.Buffer
				found, err := e.ImageInspect(c.Context(), ref, append(o, client.ImageInspectWithRawResponse(&raw))...)
				return found.InspectResponse, raw.Bytes(), err
			})
		}}
	inspectFlags(c, &format)
	c.Flags().StringVar(&platform, "platform", "", "Platform, if the image has several")
	return c
}

func pruneImages(s *session.Session) *cobra.Command {
	var all bool
	c := pruneCommand(s, "all dangling images", func(ctx context.Context, e *client.Client, f client.Filters) (pruned, error) {
		f = f.Clone().Add("dangling", fmt.Sprint(!all))
		got, err := e.ImagePrune(ctx, client.ImagePruneOptions{Filters: f})
		out := pruned{title: "Deleted Images:", freed: got.Report.SpaceReclaimed}
		for _, d := range got.Report.ImagesDeleted {
			if d.Untagged != "" {
				out.names = append(out.names, "untagged: "+d.Untagged)
			} else {
				out.names = append(out.names, "deleted: "+d.Deleted)
			}
		}
		return out, err
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove every image that no container uses")
	return c
}

func searchCommand(s *session.Session) *cobra.Command {
	var format string
	var limit int
	var noTrunc bool
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "search [OPTIONS] TERM", Short: "Search a registry for images", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			auth, err := s.AuthFor(args[0])
			if err != nil {
				return err
			}
			found, err := e.ImageSearch(c.Context(), args[0], client.ImageSearchOptions{RegistryAuth: auth, Filters: filter.Value(), Limit: limit})
			if err != nil {
				return err
			}
			var rows []show.Row
			for _, r := range found.Items {
				official := ""
				if r.IsOfficial {
					official = "[OK]"
				}
				text := strings.ReplaceAll(r.Description, "\n", " ")
				if !noTrunc {
					text = formatter.Ellipsis(text, 45)
				}
				rows = append(rows, show.Row{"Name": r.Name, "Description": text, "StarCount": r.StarCount, "IsOfficial": official})
			}
			return show.List{Columns: []string{"Name", "Description", "StarCount", "IsOfficial"}, Headers: map[string]string{"StarCount": "STARS", "IsOfficial": "OFFICIAL"}}.Print(s, format, "", false, rows)
		}}
	f := c.Flags()
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.IntVar(&limit, "limit", 0, "Number of results")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole descriptions")
	f.VarP(&filter, "filter", "f", "Show those that match (key=value)")
	return c
}
