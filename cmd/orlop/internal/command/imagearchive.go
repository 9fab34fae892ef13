package command

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
)

func saveCommand(s *session.Session) *cobra.Command {
	var output string
	var platform []string
	c := &cobra.Command{Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Write images to a tar archive", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			var o []client.ImageSaveOption
			list, err := parsePlatforms(platform)
			if err != nil {
				return err
			}
			if len(list) > 0 {
				o = append(o, client.ImageSaveWithPlatforms(list...))
			}
			return writeTo(s, output, func() (io.ReadCloser, error) { return e.ImageSave(c.Context(), args, o...) })
		}}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write, instead of standard output")
	c.Flags().StringSliceVar(&platform, "platform", nil, "Write these platforms only")
	return c
}

func parsePlatforms(texts []string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, text := range texts {
		p, err := platforms.Parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func loadCommand(s *session.Session) *cobra.Command {
	var input string
	var quiet bool
	var platform []string
	c := &cobra.Command{Use: "load [OPTIONS]", Short: "Read images from a tar archive", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			in, err := openInput(s, input)
			if err != nil {
				return err
			}
			defer in.Close()
			e, err := s.Engine()
			if err != nil {
				return err
			}
			o := []client.ImageLoadOption{client.ImageLoadWithQuiet(quiet)}
			list, err := parsePlatforms(platform)
			if err != nil {
				return err
			}
			if len(list) > 0 {
				o = append(o, client.ImageLoadWithPlatforms(list...))
			}
			got, err := e.ImageLoad(c.Context(), in, o...)
			if err != nil {
				return err
			}
			defer got.Close()
			return progress(got, s.Out, false)
		}}
	f := c.Flags()
	f.StringVarP(&input, "input", "i", "", "File to read, instead of standard input")
	f.BoolVarP(&quiet, "quiet", "q", false, "Show no progress")
	f.StringSliceVar(&platform, "platform", nil, "Read these platforms only")
	return c
}

// openInput opens a file, or standard input if that is no terminal.
func openInput(s *session.Session, path string) (io.ReadCloser, error) {
	if path != "" && path != "-" {
		return os.Open(path)
	}
	if _, tty := session.Terminal(s.In); tty {
		return nil, errors.New("requested load from stdin, but stdin is empty")
	}
	return io.NopCloser(s.In), nil
}

func importCommand(s *session.Session) *cobra.Command {
	var o client.ImageImportOptions
	var platform string
	changes := opts.NewListOpts(nil)
	c := &cobra.Command{Use: "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]", Short: "Make an image of a tar archive's files", Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			source := client.ImageImportSource{SourceName: args[0]}
			if args[0] == "-" || !strings.Contains(args[0], "://") {
				in, err := openInput(s, args[0])
				if err != nil {
					return err
				}
				defer in.Close()
				source = client.ImageImportSource{SourceName: "-", Source: in}
			}
			ref := ""
			if len(args) > 1 {
				ref = args[1]
			}
			if platform != "" {
				p, err := platforms.Parse(platform)
				if err != nil {
					return err
				}
				o.Platform = p
			}
			o.Changes = changes.GetSlice()
			e, err := s.Engine()
			if err != nil {
				return err
			}
			got, err := e.ImageImport(c.Context(), source, ref, o)
			if err != nil {
				return err
			}
			defer got.Close()
			return progress(got, s.Out, false)
		}}
	f := c.Flags()
	f.VarP(&changes, "change", "c", "Dockerfile instruction to apply to the image")
	f.StringVarP(&o.Message, "message", "m", "", "Message of the import")
	f.StringVar(&platform, "platform", "", "Platform of the files")
	return c
}
