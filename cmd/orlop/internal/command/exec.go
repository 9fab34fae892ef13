package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/stream"
	"github.com/orlop/orlop/internal/detach"
)

type execution struct {
	client.ExecCreateOptions
	background    bool
	env, envFiles opts.ListOpts
}

func execCommand(s *session.Session) *cobra.Command {
	x := execution{env: opts.NewListOpts(opts.ValidateEnv), envFiles: opts.NewListOpts(nil)}
	c := &cobra.Command{Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Run a command in a running container", Args: usage(2, -1),
		RunE: func(c *cobra.Command, args []string) error {
			x.Cmd = args[1:]
			return x.run(c.Context(), s, args[0])
		}}
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&x.DetachKeys, "detach-keys", "", "Keys that detach")
	f.BoolVarP(&x.AttachStdin, "interactive", "i", false, "Keep standard input open")
	f.BoolVarP(&x.TTY, "tty", "t", false, "Give the process a terminal")
	f.BoolVarP(&x.background, "detach", "d", false, "Run in the background")
	f.StringVarP(&x.User, "user", "u", "", "User name or ID (name|uid[:group|gid])")
	f.BoolVar(&x.Privileged, "privileged", false, "Give the process all privileges")
	f.VarP(&x.env, "env", "e", "Set an environment variable")
	f.Var(&x.envFiles, "env-file", "Read environment variables from a file")
	f.StringVarP(&x.WorkingDir, "workdir", "w", "", "Working directory")
	return c
}

func (x *execution) run(ctx context.Context, s *session.Session, container string) error {
	var err error
	if x.Env, err = opts.ReadKVEnvStrings(x.envFiles.GetSlice(), x.env.GetSlice()); err != nil {
		return err
	}
	if _, tty := session.Terminal(s.In); x.TTY && x.AttachStdin && !tty && !x.background {
		return errors.New("the input device is not a TTY")
	}
	if x.DetachKeys == "" {
		x.DetachKeys = s.Config().DetachKeys
	}
	if x.background {
		x.AttachStdin = false
	} else {
		x.AttachStdout, x.AttachStderr = true, true
		if h, w := stream.Size(s); x.TTY {
			x.ConsoleSize = client.ConsoleSize{Height: h, Width: w}
		}
	}
	e, err := s.Engine()
	if err != nil {
		return err
	}
	made, err := e.ExecCreate(ctx, container, x.ExecCreateOptions)
	if err != nil {
		return err
	}
	if x.background {
		_, err := e.ExecStart(ctx, made.ID, client.ExecStartOptions{Detach: true, TTY: x.TTY})
		return startFailure(err)
	}
	return x.attach(ctx, s, e, made.ID)
}

func startFailure(err error) error {
	if err == nil {
		return nil
	}
	return session.StartFailure(err)
}

func (x *execution) attach(ctx context.Context, s *session.Session, e *client.Client, id string) error {
	conn, err := e.ExecAttach(ctx, id, client.ExecAttachOptions{TTY: x.TTY, ConsoleSize: x.ConsoleSize})
	if err != nil {
		return session.StartFailure(err)
	}
	restore := func() {}
	if x.TTY && x.AttachStdin {
		if restore, err = stream.Raw(s.In); err != nil {
			conn.Close()
			return err
		}
	}
	defer restore()
	follow, stop := context.WithCancel(ctx)
	defer stop()
	if x.TTY {
		stream.FollowSize(follow, s, func(ctx context.Context, h, w uint) error {
			_, err := e.ExecResize(ctx, id, client.ExecResizeOptions{Height: h, Width: w})
			return err
		})
	}
	err = stream.Copy(ctx, s, conn.HijackedResponse, stream.Pipes{Stdin: x.AttachStdin, Stdout: true, Stderr: true, Terminal: x.TTY, DetachKeys: x.DetachKeys})
	restore()
	switch {
	case errors.Is(err, detach.Err):
		fmt.Fprintln(s.Err, detach.Err)
		return nil
	case err != nil:
		return err
	}
	ended, err := e.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if err != nil {
		return err
	}
	if ended.ExitCode != 0 {
		return session.Status{Code: ended.ExitCode}
	}
	return nil
}
