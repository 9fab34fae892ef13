package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/api/services/version/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

type deprecation struct {
	ID      string    `json:"id"`
	Message string    `json:"message"`
	Last    time.Time `json:"last"`
}

type infoResult struct {
	UUID         string        `json:"uuid"`
	PID          uint64        `json:"pid"`
	Address      string        `json:"address"`
	Namespace    string        `json:"namespace"`
	Version      string        `json:"version"`
	Revision     string        `json:"revision"`
	Snapshotters []string      `json:"snapshotters"`
	Deprecations []deprecation `json:"deprecations"`
}

func (a *app) infoCommand() *cobra.Command {
	return a.command("info", "Show facts about the daemon", "  orlopctl info", 0, 0, a.info)
}

func (a *app) info(ctx context.Context, c *client.Client, _ []string) error {
	found := make(chan []string, 1)
	go func() { found <- c.Snapshotters(ctx) }()
	s, err := introspection.NewIntrospectionClient(c.Conn()).Server(ctx, &emptypb.Empty{})
	if err != nil {
		return err
	}
	v, err := version.NewVersionClient(c.Conn()).Version(ctx, &emptypb.Empty{})
	if err != nil {
		return err
	}
	r := infoResult{s.UUID, s.Pid, a.address, a.namespace, v.Version, v.Revision, <-found, []deprecation{}}
	lines := []string{"daemon", r.UUID, "pid", fmt.Sprint(r.PID), "address", r.Address, "namespace", r.Namespace,
		"version", r.Version, "revision", r.Revision, "snapshotters", fmt.Sprint(r.Snapshotters)}
	for _, d := range s.Deprecations {
		r.Deprecations = append(r.Deprecations, deprecation{d.ID, d.Message, when(d.LastOccurrence)})
		lines = append(lines, "deprecated", d.Message)
	}
	return a.show(r, lines...)
}

type versionResult struct {
	Client versionRow  `json:"client"`
	Server *versionRow `json:"server"`
}

type versionRow struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"go,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := a.command("version", "Show the versions of client and daemon", "  orlopctl version\n  orlopctl version --client", 0, 0, nil)
	only := cmd.Flags().Bool("client", false, "don't ask the daemon")
	a.work(cmd, func(ctx context.Context, c *client.Client, _ []string) error {
		r := versionResult{Client: ownVersion()}
		lines := []string{"client", r.Client.Version + " " + r.Client.Revision + " " + r.Client.Go}
		if !*only {
			v, err := version.NewVersionClient(c.Conn()).Version(ctx, &emptypb.Empty{})
			if err != nil {
				return err
			}
			r.Server = &versionRow{Version: v.Version, Revision: v.Revision}
			lines = append(lines, "daemon", v.Version+" "+v.Revision)
		}
		return a.show(r, lines...)
	})
	return cmd
}

// ownVersion is what the build recorded of the module and its repository.
func ownVersion() versionRow {
	v := versionRow{Version: "unknown", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
