package command

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/cli/templates"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/internal/version"
)

func systemNoun(s *session.Session) *cobra.Command {
	return noun("system", "Manage the engine", diskUsage(s), eventsCommand(s), infoCommand(s), pruneSystem(s))
}

// details is what version prints.
type details struct {
	Client clientVersion
	Server *client.ServerVersionResult
}

type clientVersion struct {
	Version, APIVersion, GoVersion, GitCommit, Os, Arch, Context string
}

const versionTemplate = `Client: Orlop
 Version:	{{.Client.Version}}
 API version:	{{.Client.APIVersion}}
 Go version:	{{.Client.GoVersion}}
 Git commit:	{{.Client.GitCommit}}
 OS/Arch:	{{.Client.Os}}/{{.Client.Arch}}
 Context:	{{.Client.Context}}
{{- with .Server}}

Server: {{.Platform.Name}}
{{- range .Components}}
 {{.Name}}:
  Version:	{{.Version}}
{{- with .Details}}
{{- if .ApiVersion}}
  API version:	{{.ApiVersion}} (minimum version {{.MinAPIVersion}})
{{- end}}
{{- range $k, $v := .}}
{{- if not (or (eq $k "ApiVersion") (eq $k "MinAPIVersion"))}}
  {{$k}}:	{{$v}}
{{- end}}
{{- end}}
{{- end}}
{{- end}}
{{- end}}
`

func versionCommand(s *session.Session) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "version [OPTIONS]", Short: "Print the versions of client and engine", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			d := details{}
			server, failed := e.ServerVersion(c.Context(), client.ServerVersionOptions{})
			if failed == nil {
				d.Server = &server
			}
			d.Client = clientVersion{Version: version.Release, APIVersion: e.ClientVersion(), GoVersion: runtime.Version(), GitCommit: version.Revision(),
				Os: runtime.GOOS, Arch: runtime.GOARCH, Context: s.ContextName()}
			if err := fill(s, format, versionTemplate, d); err != nil {
				return err
			}
			return failed
		}}
	c.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return c
}

// fill prints by a template, the user's or the given one, with columns aligned.
func fill(s *session.Session, format, fallback string, value any) error {
	text := format
	switch text {
	case "":
		text = fallback
	case "json":
		text = "{{json .}}"
	}
	tmpl, err := templates.Parse(text)
	if err != nil {
		return session.Status{Code: 64, Reason: "template parsing error: " + err.Error()}
	}
	var out strings.Builder
	if err := tmpl.Execute(&out, value); err != nil {
		return err
	}
	if format != "" {
		_, err := fmt.Fprintln(s.Out, out.String())
		return err
	}
	return alignTabs(s.Out, out.String())
}

func infoCommand(s *session.Session) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "info [OPTIONS]", Short: "Print what the engine is and has", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			got, err := e.Info(c.Context(), client.InfoOptions{})
			if err != nil {
				return err
			}
			if err := fill(s, format, infoTemplate, got.Info); err != nil {
				return err
			}
			if format == "" {
				for _, w := range got.Info.Warnings {
					fmt.Fprintln(s.Err, w)
				}
			}
			return nil
		}}
	c.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template")
	return c
}

const infoTemplate = `Containers: {{.Containers}}
 Running: {{.ContainersRunning}}
 Paused: {{.ContainersPaused}}
 Stopped: {{.ContainersStopped}}
Images: {{.Images}}
Server Version: {{.ServerVersion}}
Storage Driver: {{.Driver}}
{{- range .DriverStatus}}
 {{index . 0}}: {{index . 1}}
{{- end}}
Logging Driver: {{.LoggingDriver}}
Cgroup Driver: {{.CgroupDriver}}
Cgroup Version: {{.CgroupVersion}}
Plugins:
 Volume: {{join .Plugins.Volume " "}}
 Network: {{join .Plugins.Network " "}}
 Log: {{join .Plugins.Log " "}}
{{- with .CDISpecDirs}}
CDI spec directories:
{{- range .}}
  {{.}}
{{- end}}
{{- end}}
Runtimes:{{range $name, $_ := .Runtimes}} {{$name}}{{end}}
Default Runtime: {{.DefaultRuntime}}
Init Binary: {{.InitBinary}}
Security Options:
{{- range .SecurityOptions}}
 {{.}}
{{- end}}
Kernel Version: {{.KernelVersion}}
Operating System: {{.OperatingSystem}}
OSType: {{.OSType}}
Architecture: {{.Architecture}}
CPUs: {{.NCPU}}
Total Memory: {{.MemTotal}}
Name: {{.Name}}
ID: {{.ID}}
Root Dir: {{.DockerRootDir}}
Debug Mode: {{.Debug}}
Live Restore Enabled: {{.LiveRestoreEnabled}}
`

func diskUsage(s *session.Session) *cobra.Command {
	var verbose bool
	var format string
	c := &cobra.Command{Use: "df [OPTIONS]", Short: "Show what takes disk space", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			got, err := e.DiskUsage(c.Context(), client.DiskUsageOptions{Containers: true, Images: true, BuildCache: true, Volumes: true, Verbose: verbose})
			if err != nil {
				return err
			}
			if format == "" {
				format = formatter.TableFormatKey
			}
			ctx := formatter.DiskUsageContext{Context: formatter.Context{Output: s.Out, Format: formatter.NewDiskUsageFormat(format, verbose)}, Verbose: verbose,
				ImageDiskUsage: got.Images, BuildCacheDiskUsage: got.BuildCache, ContainerDiskUsage: got.Containers, VolumeDiskUsage: got.Volumes}
			return ctx.Write()
		}}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "List everything")
	c.Flags().StringVar(&format, "format", "", "table, json, or a Go template")
	return c
}

func eventsCommand(s *session.Session) *cobra.Command {
	var o client.EventsListOptions
	var format string
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "events [OPTIONS]", Short: "Print what happens", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			if format == "json" {
				format = "{{json .}}"
			}
			tmpl, err := templates.Parse(format)
			if err != nil {
				return session.Status{Code: 64, Reason: "template parsing error: " + err.Error()}
			}
			o.Filters = filter.Value()
			got := e.Events(c.Context(), o)
			for {
				select {
				case m := <-got.Messages:
					if format == "" {
						s.Printf("%s\n", eventLine(m))
						continue
					}
					if err := tmpl.Execute(s.Out, m); err != nil {
						return err
					}
					s.Printf("\n")
				case err := <-got.Err:
					if err == io.EOF || c.Context().Err() != nil {
						return nil
					}
					return err
				}
			}
		}}
	f := c.Flags()
	f.StringVar(&o.Since, "since", "", "Begin at this time")
	f.StringVar(&o.Until, "until", "", "End at this time")
	f.StringVar(&format, "format", "", "json, or a Go template")
	f.VarP(&filter, "filter", "f", "Print those that match (key=value)")
	return c
}

// nanos is docker's format of times, whose fraction has nine digits always.
const nanos = "2006-01-02T15:04:05.000000000Z07:00"

func eventLine(m events.Message) string {
	at := time.Unix(m.Time, 0)
	if m.TimeNano != 0 {
		at = time.Unix(0, m.TimeNano)
	}
	var about []string
	for k, v := range m.Actor.Attributes {
		about = append(about, k+"="+v)
	}
	line := fmt.Sprintf("%s %s %s %s", at.Format(nanos), m.Type, m.Action, m.Actor.ID)
	if len(about) > 0 {
		line += " (" + strings.Join(sorted(about), ", ") + ")"
	}
	return line
}

func pruneSystem(s *session.Session) *cobra.Command {
	var all, force, volumes bool
	filter := opts.NewFilterOpt()
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove what nothing uses", Args: usage(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if !force && !agreed(s, pruneWarning(all, volumes)) {
				return session.Status{Code: 1, Reason: "nothing was removed"}
			}
			e, err := s.Engine()
			if err != nil {
				return err
			}
			freed, err := pruneAll(c.Context(), s, e, s.PruneFilters(filter.Value()), all, volumes)
			if err != nil {
				return err
			}
			s.Printf("Total reclaimed space: %s\n", units.HumanSize(float64(freed)))
			return nil
		}}
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Remove all unused images, not just dangling ones")
	f.BoolVarP(&force, "force", "f", false, "Do not ask")
	f.BoolVar(&volumes, "volumes", false, "Remove anonymous volumes")
	f.Var(&filter, "filter", "Remove those that match (key=value)")
	return c
}

func pruneWarning(all, volumes bool) string {
	lines := []string{"all stopped containers", "all networks not used by at least one container"}
	if volumes {
		lines = append(lines, "all anonymous volumes not used by at least one container")
	}
	if all {
		lines = append(lines, "all images without at least one container associated to them", "all build cache")
	} else {
		lines = append(lines, "all dangling images", "unused build cache")
	}
	return "WARNING! This will remove:\n  - " + strings.Join(lines, "\n  - ") + "\n\nAre you sure you want to continue?"
}

func pruneAll(ctx context.Context, s *session.Session, e *client.Client, f client.Filters, all, volumes bool) (freed uint64, err error) {
	steps := []func() (pruned, error){
		func() (pruned, error) {
			got, err := e.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: f})
			return pruned{"Deleted Containers:", got.Report.ContainersDeleted, got.Report.SpaceReclaimed}, err
		},
		func() (pruned, error) {
			got, err := e.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: f})
			return pruned{"Deleted Networks:", got.Report.NetworksDeleted, 0}, err
		},
		func() (pruned, error) {
			if !volumes {
				return pruned{}, nil
			}
			got, err := e.VolumePrune(ctx, client.VolumePruneOptions{Filters: f})
			return pruned{"Deleted Volumes:", got.Report.VolumesDeleted, got.Report.SpaceReclaimed}, err
		},
		func() (pruned, error) {
			got, err := e.ImagePrune(ctx, client.ImagePruneOptions{Filters: f.Clone().Add("dangling", fmt.Sprint(!all))})
			out := pruned{title: "Deleted Images:", freed: got.Report.SpaceReclaimed}
			for _, d := range got.Report.ImagesDeleted {
				out.names = append(out.names, d.Untagged+d.Deleted)
			}
			return out, err
		},
		func() (pruned, error) {
			got, err := e.BuildCachePrune(ctx, client.BuildCachePruneOptions{All: all, Filters: f})
			return pruned{"Deleted build cache objects:", got.Report.CachesDeleted, got.Report.SpaceReclaimed}, err
		},
	}
	for _, step := range steps {
		got, err := step()
		if err != nil {
			return freed, err
		}
		got.print(s)
		freed += got.freed
	}
	return freed, nil
}
