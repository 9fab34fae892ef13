package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/option"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

func containerNoun(s *session.Session) *cobra.Command {
	return noun("container", "Manage containers",
		attachCommand(s), commitCommand(s), copyCommand(s), createCommand(s), diffCommand(s), execCommand(s), exportCommand(s),
		inspectContainer(s), killCommand(s), logsCommand(s), named("ls", psCommand(s), "ps", "list"), pauseCommand(s), portCommand(s),
		pruneContainers(s), renameCommand(s), restartCommand(s), named("rm", rmCommand(s), "remove"), runCommand(s), startCommand(s), statsCommand(s), stopCommand(s),
		topCommand(s), unpauseCommand(s), updateCommand(s), waitCommand(s), whyCommand(s))
}

func psCommand(s *session.Session) *cobra.Command {
	var all, quiet, noTrunc, latest, size bool
	var last int
	var format string
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "ps [OPTIONS]", Short: "List containers", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			if latest && last == -1 {
				last = 1
			}
			if format == "" && !quiet {
				format = s.Config().PsFormat
			}
			list := client.ContainerListOptions{All: all, Limit: last, Filters: filter.Value(), Size: size || strings.Contains(format, ".Size")}
			if c.Flags().Changed("size") {
				list.Size = size
			}
			found, err := e.ContainerList(c.Context(), list)
			if err != nil {
				return err
			}
			if format == "" {
				format = formatter.TableFormatKey
			}
			ctx := formatter.Context{Output: s.Out, Format: formatter.NewContainerFormat(format, quiet, list.Size), Trunc: !noTrunc}
			return formatter.ContainerWrite(ctx, found.Items)
		}}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show stopped ones too")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print IDs only")
	f.BoolVar(&noTrunc, "no-trunc", false, "Print whole IDs and commands")
	f.BoolVarP(&latest, "latest", "l", false, "Show the one that was made last")
	f.IntVarP(&last, "last", "n", -1, "Show so many that were made last")
	f.BoolVarP(&size, "size", "s", false, "Show sizes")
	f.StringVar(&format, "format", "", "table, json, or a Go template")
	f.VarP(&filter, "filter", "f", "Show those that match (key=value)")
	return c
}

// each makes a command that does one thing to every container that is named, and
// prints its name.
func each(s *session.Session, use, short string, do func(ctx context.Context, e *client.Client, id string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: usage(1, -1), RunE: func(c *cobra.Command, args []string) error {
		e, err := s.Engine()
		if err != nil {
			return err
		}
		return s.Each(c.Context(), args, func(ctx context.Context, id string) error {
			if err := do(ctx, e, id); err != nil {
				return err
			}
			s.Printf("%s\n", id)
			return nil
		})
	}}
}

func stopCommand(s *session.Session) *cobra.Command {
	var o client.ContainerStopOptions
	var seconds int
	var c *cobra.Command
	c = each(s, "stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop running containers", func(ctx context.Context, e *client.Client, id string) error {
		if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
			o.Timeout = &seconds
		}
		_, err := e.ContainerStop(ctx, id, o)
		return err
	})
	stopFlags(c, &o.Signal, &seconds)
	return c
}

func restartCommand(s *session.Session) *cobra.Command {
	var o client.ContainerRestartOptions
	var seconds int
	var c *cobra.Command
	c = each(s, "restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart containers", func(ctx context.Context, e *client.Client, id string) error {
		if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
			o.Timeout = &seconds
		}
		_, err := e.ContainerRestart(ctx, id, o)
		return err
	})
	stopFlags(c, &o.Signal, &seconds)
	return c
}

func stopFlags(c *cobra.Command, signal *string, seconds *int) {
	f := c.Flags()
	f.StringVarP(signal, "signal", "s", "", "Signal to send")
	f.IntVarP(seconds, "timeout", "t", 0, "Seconds to wait before killing")
	f.IntVar(seconds, "time", 0, "Seconds to wait before killing")
	f.MarkDeprecated("time", "use --timeout instead")
}

func killCommand(s *session.Session) *cobra.Command {
	var o client.ContainerKillOptions
	c := each(s, "kill [OPTIONS] CONTAINER [CONTAINER...]", "Kill running containers", func(ctx context.Context, e *client.Client, id string) error {
		_, err := e.ContainerKill(ctx, id, o)
		return err
	})
	c.Flags().StringVarP(&o.Signal, "signal", "s", "", "Signal to send (default KILL)")
	return c
}

func pauseCommand(s *session.Session) *cobra.Command {
	return each(s, "pause CONTAINER [CONTAINER...]", "Freeze all processes of containers", func(ctx context.Context, e *client.Client, id string) error {
		_, err := e.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		return err
	})
}

func unpauseCommand(s *session.Session) *cobra.Command {
	return each(s, "unpause CONTAINER [CONTAINER...]", "Thaw paused containers", func(ctx context.Context, e *client.Client, id string) error {
		_, err := e.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
		return err
	})
}

func rmCommand(s *session.Session) *cobra.Command {
	var o client.ContainerRemoveOptions
	c := each(s, "rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove containers", func(ctx context.Context, e *client.Client, id string) error {
		_, err := e.ContainerRemove(ctx, strings.Trim(id, "/"), o)
		return err
	})
	f := c.Flags()
	f.BoolVarP(&o.RemoveVolumes, "volumes", "v", false, "Remove its anonymous volumes too")
	f.BoolVarP(&o.RemoveLinks, "link", "l", false, "Remove the link that is named")
	f.BoolVarP(&o.Force, "force", "f", false, "Kill it if it is running")
	return c
}

func waitCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "wait CONTAINER [CONTAINER...]", Short: "Wait for containers' end and print their exit codes", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return s.Each(c.Context(), args, func(ctx context.Context, id string) error {
				ended := e.ContainerWait(ctx, id, client.ContainerWaitOptions{})
				select {
				case got := <-ended.Result:
					s.Printf("%d\n", got.StatusCode)
					return nil
				case err := <-ended.Error:
					return err
				}
			})
		}}
}

func renameCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "rename CONTAINER NEW_NAME", Short: "Rename a container", Args: usage(2, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			_, err = e.ContainerRename(c.Context(), args[0], client.ContainerRenameOptions{NewName: args[1]})
			return err
		}}
}

func updateCommand(s *session.Session) *cobra.Command {
	var limits option.Limits
	var restart string
	c := each(s, "update [OPTIONS] CONTAINER [CONTAINER...]", "Change limits of containers", func(ctx context.Context, e *client.Client, id string) error {
		resources := limits.Resources()
		change := client.ContainerUpdateOptions{Resources: &resources}
		if restart != "" {
			policy, err := opts.ParseRestartPolicy(restart)
			if err != nil {
				return err
			}
			change.RestartPolicy = &policy
		}
		changed, err := e.ContainerUpdate(ctx, id, change)
		for _, w := range changed.Warnings {
			fmt.Fprintln(s.Err, "WARNING:", w)
		}
		return err
	})
	inner := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if c.Flags().NFlag() == 0 {
			return errors.New("you must provide one or more flags when using this command")
		}
		return inner(c, args)
	}
	limits.AddLive(c.Flags())
	c.Flags().StringVar(&restart, "restart", "", "When to restart the container")
	return c
}

func logsCommand(s *session.Session) *cobra.Command {
	o := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}
	c := &cobra.Command{Use: "logs [OPTIONS] CONTAINER", Short: "Print the output of a container", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerInspect(c.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			in, err := e.ContainerLogs(c.Context(), found.Container.ID, o)
			if err != nil {
				return err
			}
			defer in.Close()
			if found.Container.Config.Tty {
				_, err = io.Copy(s.Out, in)
			} else {
				_, err = stdcopy.StdCopy(s.Out, s.Err, in)
			}
			return err
		}}
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "Go on with what comes")
	f.StringVar(&o.Since, "since", "", "Leave out what is older (a time, or 42m for that long ago)")
	f.StringVar(&o.Until, "until", "", "Leave out what is younger")
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Print times")
	f.BoolVar(&o.Details, "details", false, "Print attributes")
	f.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines from the end")
	return c
}

func topCommand(s *session.Session) *cobra.Command {
	c := &cobra.Command{Use: "top CONTAINER [ps OPTIONS]", Short: "List the processes of a container", Args: usage(1, -1), DisableFlagParsing: false,
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerTop(c.Context(), args[0], client.ContainerTopOptions{Arguments: args[1:]})
			if err != nil {
				return err
			}
			return columns(s.Out, append([][]string{found.Titles}, found.Processes...))
		}}
	c.Flags().SetInterspersed(false)
	return c
}

func diffCommand(s *session.Session) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "diff CONTAINER", Short: "List how a container's files differ from its image", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerDiff(c.Context(), args[0], client.ContainerDiffOptions{})
			if err != nil {
				return err
			}
			var rows []show.Row
			for _, ch := range found.Changes {
				rows = append(rows, show.Row{"Type": ch.Kind.String(), "Path": ch.Path})
			}
			if format == "" {
				format = "{{.Type}} {{.Path}}"
			}
			return show.List{Columns: []string{"Type", "Path"}, Headers: map[string]string{"Type": "CHANGE TYPE"}}.Print(s, format, "", false, rows)
		}}
	c.Flags().StringVar(&format, "format", "", "table, json, or a Go template")
	return c
}

func exportCommand(s *session.Session) *cobra.Command {
	var output string
	c := &cobra.Command{Use: "export [OPTIONS] CONTAINER", Short: "Write a container's files as a tar archive", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return writeTo(s, output, func() (io.ReadCloser, error) {
				return e.ContainerExport(c.Context(), args[0], client.ContainerExportOptions{})
			})
		}}
	c.Flags().StringVarP(&output, "output", "o", "", "File to write, instead of standard output")
	return c
}

// writeTo copies a stream to a file, which is there whole or not at all, or to
// standard output if that is no terminal.
func writeTo(s *session.Session, path string, open func() (io.ReadCloser, error)) error {
	if _, tty := session.Terminal(s.Out); path == "" && tty {
		return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	in, err := open()
	if err != nil {
		return err
	}
	defer in.Close()
	if path == "" {
		_, err := io.Copy(s.Out, in)
		return err
	}
	out, err := os.CreateTemp(dirOf(path), ".orlop-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone if it was renamed
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o600), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

func commitCommand(s *session.Session) *cobra.Command {
	var o client.ContainerCommitOptions
	var pause bool
	changes := opts.NewListOpts(nil)
	c := &cobra.Command{Use: "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Short: "Make an image of a container's files", Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			if len(args) > 1 {
				o.Reference = args[1]
			}
			o.Changes = changes.GetSlice()
			o.NoPause = o.NoPause || !pause
			made, err := e.ContainerCommit(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			s.Printf("%s\n", made.ID)
			return nil
		}}
	f := c.Flags()
	f.BoolVarP(&pause, "pause", "p", true, "Freeze the container meanwhile")
	f.BoolVar(&o.NoPause, "no-pause", false, "Do not freeze the container")
	f.StringVarP(&o.Comment, "message", "m", "", "Message of the commit")
	f.StringVarP(&o.Author, "author", "a", "", "Author")
	f.VarP(&changes, "change", "c", "Dockerfile instruction to apply to the image")
	return c
}

func portCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List published ports", Args: usage(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerInspect(c.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			wanted := ""
			if len(args) > 1 {
				if wanted = args[1]; !strings.Contains(wanted, "/") {
					wanted += "/tcp"
				}
			}
			lines := portLines(found.Container, wanted)
			if wanted != "" && len(lines) == 0 {
				return fmt.Errorf("no public port '%s' published for %s", args[1], args[0])
			}
			for _, l := range lines {
				s.Printf("%s\n", l)
			}
			return nil
		}}
}

func inspectContainer(s *session.Session) *cobra.Command {
	var format string
	var size bool
	c := &cobra.Command{Use: "inspect [OPTIONS] CONTAINER [CONTAINER...]", Short: "Print details of containers", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				found, err := e.ContainerInspect(c.Context(), ref, client.ContainerInspectOptions{Size: size})
				return found.Container, found.Raw, err
			})
		}}
	inspectFlags(c, &format)
	c.Flags().BoolVarP(&size, "size", "s", false, "Show sizes")
	return c
}

func inspectFlags(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "format", "f", "", "json, or a Go template")
}

func pruneContainers(s *session.Session) *cobra.Command {
	return pruneCommand(s, "all stopped containers", func(ctx context.Context, e *client.Client, f client.Filters) (pruned, error) {
		got, err := e.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: f})
		return pruned{title: "Deleted Containers:", names: got.Report.ContainersDeleted, freed: got.Report.SpaceReclaimed}, err
	})
}
