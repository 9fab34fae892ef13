package command

import (
	"context"
	"errors"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

func volumeNoun(s *session.Session) *cobra.Command {
	return noun("volume", "Manage volumes", createVolume(s), inspectVolume(s), listVolumes(s), pruneVolumes(s), removeVolumes(s))
}

func createVolume(s *session.Session) *cobra.Command {
	var o client.VolumeCreateOptions
	driverOpts, labels := opts.NewMapOpts(nil, nil), opts.NewListOpts(opts.ValidateLabel)
	c := &cobra.Command{Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: usage(0, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if o.Name != "" {
					return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				o.Name = args[0]
			}
			o.DriverOpts, o.Labels = driverOpts.GetAll(), opts.ConvertKVStringsToMap(labels.GetSlice())
			e, err := s.Engine()
			if err != nil {
				return err
			}
			made, err := e.VolumeCreate(c.Context(), o)
			if err != nil {
				return err
			}
			s.Printf("%s\n", made.Volume.Name)
			return nil
		}}
	f := c.Flags()
	f.StringVarP(&o.Driver, "driver", "d", "local", "Driver")
	f.StringVar(&o.Name, "name", "", "Name")
	f.MarkHidden("name")
	f.VarP(driverOpts, "opt", "o", "Options of the driver")
	f.Var(&labels, "label", "Set a label of the volume")
	return c
}

func inspectVolume(s *session.Session) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Print details of volumes", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				found, err := e.VolumeInspect(c.Context(), ref, client.VolumeInspectOptions{})
				return found.Volume, found.Raw, err
			})
		}}
	inspectFlags(c, &format)
	return c
}

func listVolumes(s *session.Session) *cobra.Command {
	var format string
	var quiet bool
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.VolumeList(c.Context(), client.VolumeListOptions{Filters: filter.Value()})
			if err != nil {
				return err
			}
			if format == "" && !quiet {
				format = s.Config().VolumesFormat
			}
			if format == "" {
				format = formatter.TableFormatKey
			}
			return formatter.VolumeWrite(formatter.Context{Output: s.Out, Format: formatter.NewVolumeFormat(format, quiet)}, found.Items)
		}}
	f := c.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.VarP(&filter, "filter", "f", "Show those that match (key=value)")
	return c
}

func removeVolumes(s *session.Session) *cobra.Command {
	var o client.VolumeRemoveOptions
	c := each(s, "rm [OPTIONS] VOLUME [VOLUME...]", "Remove volumes", func(ctx context.Context, e *client.Client, name string) error {
		_, err := e.VolumeRemove(ctx, name, o)
		return err
	})
	c.Aliases = []string{"remove"}
	c.Flags().BoolVarP(&o.Force, "force", "f", false, "One that isn't there is no error")
	return c
}

func pruneVolumes(s *session.Session) *cobra.Command {
	var all bool
	c := pruneCommand(s, "anonymous local volumes not used by at least one container", func(ctx context.Context, e *client.Client, f client.Filters) (pruned, error) {
		got, err := e.VolumePrune(ctx, client.VolumePruneOptions{All: all, Filters: f})
		return pruned{title: "Deleted Volumes:", names: got.Report.VolumesDeleted, freed: got.Report.SpaceReclaimed}, err
	})
	c.Flags().BoolVarP(&all, "all", "a", false, "Remove named ones too")
	return c
}
