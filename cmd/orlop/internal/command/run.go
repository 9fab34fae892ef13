package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/option"
	"github.com/orlop/orlop/cmd/orlop/internal/stream"
)

// making are the flags of a creation.
type making struct {
	*option.Container
	name     string
	platform string
	pull     string
	quiet    bool
}

func (m *making) add(c *cobra.Command) {
	f := c.Flags()
	f.Bool("help", false, "Print usage") // -h is the host name
	m.Container = option.Add(f)
	f.StringVar(&m.name, "name", "", "Name of the container")
	f.StringVar(&m.platform, "platform", "", "Platform of the image, if it has several")
	f.StringVar(&m.pull, "pull", pullMissing, "Pull the image before (always|missing|never)")
	f.BoolVarP(&m.quiet, "quiet", "q", false, "Show no progress of a pull")
	f.Bool("disable-content-trust", true, "No effect")
	f.MarkHidden("disable-content-trust")
}

// When an image is pulled.
const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

func createCommand(s *session.Session) *cobra.Command {
	var m making
	c := &cobra.Command{Use: "create [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Create a container", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			asked, err := m.Build(args[0], args[1:])
			if err != nil {
				return session.Status{Code: session.CodeUsage, Reason: "orlop: " + err.Error()}
			}
			id, err := m.create(c.Context(), s, asked)
			if err != nil {
				return session.StartFailure(err)
			}
			s.Printf("%s\n", id)
			return nil
		}}
	m.add(c)
	return c
}

// create makes the container, pulling its image if that is missing.
func (m *making) create(ctx context.Context, s *session.Session, asked client.ContainerCreateOptions) (string, error) {
	e, err := s.Engine()
	if err != nil {
		return "", err
	}
	var cid *idFile
	if m.CIDFile != "" {
		if cid, err = newIDFile(m.CIDFile); err != nil {
			return "", err
		}
		defer cid.close()
	}
	asked.Name = m.name
	if m.platform != "" {
		p, err := platforms.Parse(m.platform)
		if err != nil {
			return "", err
		}
		asked.Platform = &p
	}
	switch m.pull {
	case pullAlways, pullMissing, pullNever:
	default:
		return "", fmt.Errorf("invalid --pull %q: it is always, missing or never", m.pull)
	}
	if m.pull == pullAlways {
		if err := m.fetch(ctx, s, asked.Config.Image); err != nil {
			return "", err
		}
	}
	made, err := e.ContainerCreate(ctx, asked)
	if errdefs.IsNotFound(err) && m.pull == pullMissing && strings.Contains(err.Error(), "o such image") {
		fmt.Fprintf(s.Err, "Unable to find image '%s' locally\n", familiar(asked.Config.Image))
		if err := m.fetch(ctx, s, asked.Config.Image); err != nil {
			return "", err
		}
		made, err = e.ContainerCreate(ctx, asked)
	}
	if err != nil {
		return "", err
	}
	for _, w := range made.Warnings {
		fmt.Fprintln(s.Err, "WARNING:", w)
	}
	return made.ID, cid.write(made.ID)
}

func (m *making) fetch(ctx context.Context, s *session.Session, image string) error {
	return pull(ctx, s, pulling{ref: image, platform: m.platform, quiet: m.quiet, untold: true, out: s.Err})
}

// idFile is where --cidfile writes; it must not exist.
type idFile struct {
	f    *os.File
	kept bool
}

func newIDFile(path string) (*idFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("container ID file: %w", err)
	}
	return &idFile{f: f}, nil
}

func (f *idFile) write(id string) error {
	if f == nil {
		return nil
	}
	_, err := f.f.WriteString(id)
	f.kept = err == nil
	return err
}

func (f *idFile) close() {
	f.f.Close()
	if !f.kept {
		os.Remove(f.f.Name())
	}
}

// running is one run of a container.
type running struct {
	making
	detach     bool
	detachKeys string
	sigProxy   bool
}

func runCommand(s *session.Session) *cobra.Command {
	var r running
	c := &cobra.Command{Use: "run [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Create and run a container", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			asked, err := r.Build(args[0], args[1:])
			if err != nil {
				return session.Status{Code: session.CodeUsage, Reason: "orlop: " + err.Error()}
			}
			return r.run(c.Context(), s, asked)
		}}
	r.add(c)
	f := c.Flags()
	f.BoolVarP(&r.detach, "detach", "d", false, "Run in the background and print the container's ID")
	f.StringVar(&r.detachKeys, "detach-keys", "", "Keys that detach")
	f.BoolVar(&r.sigProxy, "sig-proxy", true, "Hand signals to the process")
	return c
}

func (r *running) run(ctx context.Context, s *session.Session, asked client.ContainerCreateOptions) error {
	if err := r.check(s, asked.Config); err != nil {
		return session.Status{Code: session.CodeUsage, Reason: "orlop: " + err.Error()}
	}
	if r.detach {
		option.Detach(asked.Config)
	} else if asked.Config.Tty {
		h, w := stream.Size(s)
		asked.HostConfig.ConsoleSize = [2]uint{h, w}
	}
	id, err := r.create(ctx, s, asked)
	if err != nil {
		return session.StartFailure(err)
	}
	if r.detach {
		e, err := s.Engine()
		if err == nil {
			_, err = e.ContainerStart(ctx, id, client.ContainerStartOptions{})
		}
		if err != nil {
			return session.StartFailure(err)
		}
		s.Printf("%s\n", id)
		return nil
	}
	a := attachment{id: id, config: asked.Config, keys: r.detachKeys, proxy: r.sigProxy && !asked.Config.Tty, removed: r.AutoRemove, start: true}
	return a.run(ctx, s)
}

func (r *running) check(s *session.Session, c *container.Config) error {
	if r.detach && r.Attached() {
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	}
	if _, tty := session.Terminal(s.In); c.Tty && c.AttachStdin && !tty && !r.detach {
		return errors.New("the input device is not a TTY")
	}
	return nil
}
