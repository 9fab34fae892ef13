package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
)

// work gives a command, whose flags are known now, what it does.
func (a *app) work(cmd *cobra.Command, do action) {
	cmd.RunE = a.command("", "", "", 0, 0, do).RunE
}

// registryFlags are those of commands that talk to registries.
func registryFlags(cmd *cobra.Command) *client.Registry {
	r := &client.Registry{}
	cmd.Flags().BoolVar(&r.PlainHTTP, "plain-http", false, "use http; loopback addresses do so anyway")
	cmd.Flags().StringVar(&r.HostsDir, "hosts-dir", "", "folder with hosts.toml files, on the daemon's machine")
	cmd.Flags().StringVarP(&r.User, "user", "u", "", "name:password; default: Docker's config file and helpers")
	return r
}

func (a *app) pullCommand() *cobra.Command {
	cmd := a.command("pull IMAGE", "Fetch an image from a registry and unpack it",
		"  orlopctl images pull busybox\n  orlopctl images pull --platform linux/arm64 --no-unpack registry.example.com/app:v1", 1, 1, nil)
	registry := registryFlags(cmd)
	var o client.PullOptions
	var labels []string
	cmd.Flags().StringArrayVar(&o.Platforms, "platform", nil, "platform to fetch, such as linux/arm64; default: the daemon's")
	cmd.Flags().BoolVar(&o.AllPlatforms, "all-platforms", false, "fetch the manifests of all platforms")
	cmd.Flags().BoolVar(&o.NoUnpack, "no-unpack", false, "only fetch")
	cmd.Flags().StringVar(&o.Snapshotter, "snapshotter", os.Getenv("ORLOP_SNAPSHOTTER"), "snapshotter to unpack with; default: the daemon's")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "label of the image, as KEY=VALUE")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		var err error
		if o.Labels, err = newLabels(labels); err != nil {
			return err
		}
		o.Registry = *registry
		name := client.Reference(args[0])
		return a.withProgress(name, func(p client.Progress) error { return c.Pull(ctx, name, o, p) })
	})
	return cmd
}

func (a *app) pushCommand() *cobra.Command {
	cmd := a.command("push IMAGE [AS]", "Send an image to a registry",
		"  orlopctl images push registry.example.com/app:v1\n  orlopctl images push busybox 127.0.0.1:5000/busybox:test", 1, 2, nil)
	registry := registryFlags(cmd)
	platforms := cmd.Flags().StringArray("platform", nil, "platform to send; default: all there are")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		local, as := client.Reference(args[0]), client.Reference(args[len(args)-1])
		return a.withProgress(as, func(p client.Progress) error { return c.Push(ctx, local, as, *platforms, *registry, p) })
	})
	return cmd
}

func (a *app) importCommand() *cobra.Command {
	cmd := a.command("import FILE", "Read an OCI or Docker archive; - is the standard input",
		"  docker save app | orlopctl images import -\n  orlopctl images import --name example.com/app app.tar", 1, 1, nil)
	var o client.ImportOptions
	cmd.Flags().StringVar(&o.Prefix, "name", "", "name, without a tag, of images that the archive doesn't name")
	cmd.Flags().StringArrayVar(&o.Platforms, "platform", nil, "platform to keep; default: all in the archive")
	cmd.Flags().BoolVar(&o.NoUnpack, "no-unpack", false, "only store")
	cmd.Flags().StringVar(&o.Snapshotter, "snapshotter", os.Getenv("ORLOP_SNAPSHOTTER"), "snapshotter to unpack with; default: the daemon's")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		in := a.in
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		return a.withProgress("", func(p client.Progress) error { return c.Import(ctx, in, o, p) })
	})
	return cmd
}

func (a *app) exportCommand() *cobra.Command {
	cmd := a.command("export FILE IMAGE", "Write an image as an archive for OCI tools and Docker; - is the standard output",
		"  orlopctl images export app.tar app:v1\n  orlopctl images export - app:v1 | docker load", 2, 2, nil)
	platforms := cmd.Flags().StringArray("platform", nil, "platform to write; default: this machine's")
	all := cmd.Flags().Bool("all-platforms", false, "write all platforms")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		i, err := c.Find(ctx, args[1])
		if err != nil {
			return err
		}
		if args[0] == "-" {
			return c.Export(ctx, a.out, i.Name, *platforms, *all, nil)
		}
		return a.exportFile(args[0], func(w io.Writer) error {
			return a.withProgress("", func(p client.Progress) error { return c.Export(ctx, w, i.Name, *platforms, *all, p) })
		})
	})
	return cmd
}

// exportFile writes to a file beside the one wanted, which appears whole or not
// at all.
func (a *app) exportFile(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(dirOf(name), ".orlopctl-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (a *app) tagCommand() *cobra.Command {
	cmd := a.command("tag IMAGE NAME...", "Give an image more names", "  orlopctl images tag busybox example.com/box:v1", 2, -1, nil)
	force := cmd.Flags().Bool("force", false, "replace names that exist")
	a.work(cmd, func(ctx context.Context, c *client.Client, args []string) error {
		i, err := c.Find(ctx, args[0])
		if err != nil {
			return err
		}
		return a.each(args[1:], func(name string) error {
			name = client.Reference(name)
			if have, err := c.Find(ctx, name); err == nil && !*force && have.Name == name {
				return fmt.Errorf("exists already; --force replaces it")
			}
			return c.Tag(ctx, i.Name, name)
		})
	})
	return cmd
}
