package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/stream"
	"github.com/orlop/orlop/internal/detach"
)

// attachment is a container whose streams the user's are connected to.
type attachment struct {
	id      string
	config  *container.Config
	keys    string // that detach
	proxy   bool   // signals are handed on
	removed bool   // the container removes itself
	start   bool   // it is yet to be started
	from    client.ContainerStartOptions
}

// run attaches, starts and waits. Attach and wait, side by side, come before the start,
// so that nothing is missed however short the run is.
func (a *attachment) run(ctx context.Context, s *session.Session) error {
	e, err := s.Engine()
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // signals are the container's
	if a.proxy || !a.config.Tty {
		stop := stream.ForwardSignals(ctx, func(ctx context.Context, sig string) error {
			if !a.proxy {
				return nil
			}
			_, err := e.ContainerKill(ctx, a.id, client.ContainerKillOptions{Signal: sig})
			return err
		})
		defer stop()
	}
	if a.keys == "" {
		a.keys = s.Config().DetachKeys
	}
	waiting := make(chan client.ContainerWaitResult, 1)
	go func() { waiting <- e.ContainerWait(ctx, a.id, client.ContainerWaitOptions{Condition: a.condition()}) }()
	streams, attached, err := a.connect(ctx, s, e)
	if err != nil {
		return session.StartFailure(err)
	}
	ended := <-waiting
	if a.start {
		if _, err := e.ContainerStart(ctx, a.id, a.from); err != nil {
			streams.close()
			if a.removed {
				awaitEnd(ended) // so that the next command finds it gone
			}
			return session.StartFailure(err)
		}
	}
	if a.config.Tty {
		follow, stop := context.WithCancel(ctx)
		defer stop()
		stream.FollowSize(follow, s, func(ctx context.Context, h, w uint) error {
			_, err := e.ContainerResize(ctx, a.id, client.ContainerResizeOptions{Height: h, Width: w})
			return err
		})
	}
	if attached {
		switch err := streams.wait(); {
		case errors.Is(err, detach.Err):
			if !a.start {
				return session.Status{Code: 1, Reason: detach.Err.Error()} // as scripts know it of docker attach
			}
			fmt.Fprintln(s.Err, detach.Err)
			return nil
		case err != nil:
			return err
		}
	}
	return awaitEnd(ended)
}

// condition is what is waited for.
func (a *attachment) condition() container.WaitCondition {
	switch {
	case a.removed:
		return container.WaitConditionRemoved
	case !a.start:
		return container.WaitConditionNotRunning
	}
	return container.WaitConditionNextExit
}

// streams are the copying of bytes, that is under way.
type streams struct {
	done    chan error
	restore func()
	conn    client.HijackedResponse
}

func (st *streams) close() {
	if st == nil {
		return
	}
	st.restore()
	st.conn.Close()
}

// wait waits for the output's end, or for the user to detach.
func (st *streams) wait() error {
	err := <-st.done
	st.restore()
	return err
}

func (a *attachment) connect(ctx context.Context, s *session.Session, e *client.Client) (*streams, bool, error) {
	c := a.config
	if !c.AttachStdin && !c.AttachStdout && !c.AttachStderr {
		return nil, false, nil
	}
	conn, err := e.ContainerAttach(ctx, a.id, client.ContainerAttachOptions{
		Stream: true, Stdin: c.AttachStdin, Stdout: c.AttachStdout, Stderr: c.AttachStderr, DetachKeys: a.keys})
	if err != nil {
		return nil, false, err
	}
	st := &streams{done: make(chan error, 1), restore: func() {}, conn: conn.HijackedResponse}
	if c.Tty && c.AttachStdin {
		if st.restore, err = stream.Raw(s.In); err != nil {
			conn.Close()
			return nil, false, err
		}
	}
	go func() {
		st.done <- stream.Copy(ctx, s, conn.HijackedResponse, stream.Pipes{Stdin: c.AttachStdin, Stdout: c.AttachStdout, Stderr: c.AttachStderr, Terminal: c.Tty, DetachKeys: a.keys})
	}()
	return st, true, nil
}

// awaitEnd turns a container's end into this program's.
func awaitEnd(ended client.ContainerWaitResult) error {
	select {
	case got := <-ended.Result:
		if got.Error != nil && got.Error.Message != "" {
			return errors.New(got.Error.Message)
		}
		if got.StatusCode != 0 {
			return session.Status{Code: int(got.StatusCode)}
		}
		return nil
	case err := <-ended.Error:
		return session.Status{Code: session.CodeUsage, Reason: fmt.Sprintf("orlop: waiting for the container's end: %v", err)}
	}
}

func attachCommand(s *session.Session) *cobra.Command {
	var keys string
	var noStdin, proxy bool
	c := &cobra.Command{Use: "attach [OPTIONS] CONTAINER", Short: "Connect to a running container's streams", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerInspect(c.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			switch state := found.Container.State; {
			case !state.Running:
				return errors.New("cannot attach to a stopped container, start it first")
			case state.Paused:
				return errors.New("cannot attach to a paused container, unpause it first")
			case state.Restarting:
				return errors.New("cannot attach to a restarting container, wait until it is running")
			}
			config := *found.Container.Config
			config.AttachStdin, config.AttachStdout, config.AttachStderr = !noStdin && config.OpenStdin, true, true
			a := attachment{id: found.Container.ID, config: &config, keys: keys, proxy: proxy && !config.Tty}
			return a.run(c.Context(), s)
		}}
	f := c.Flags()
	f.StringVar(&keys, "detach-keys", "", "Keys that detach")
	f.BoolVar(&noStdin, "no-stdin", false, "Do not attach standard input")
	f.BoolVar(&proxy, "sig-proxy", true, "Hand signals to the process")
	return c
}

func startCommand(s *session.Session) *cobra.Command {
	var attach, interactive bool
	var keys string
	var o client.ContainerStartOptions
	c := &cobra.Command{Use: "start [OPTIONS] CONTAINER [CONTAINER...]", Short: "Start stopped containers", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			if !attach && !interactive {
				return s.Each(c.Context(), args, func(ctx context.Context, id string) error {
					_, err := e.ContainerStart(ctx, id, o)
					if err == nil {
						s.Printf("%s\n", id)
					}
					return err
				})
			}
			if len(args) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			found, err := e.ContainerInspect(c.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			config := *found.Container.Config
			config.AttachStdin, config.AttachStdout, config.AttachStderr = interactive && config.OpenStdin, true, true
			a := attachment{id: found.Container.ID, config: &config, keys: keys, proxy: !config.Tty, start: true, from: o, removed: found.Container.HostConfig.AutoRemove}
			return a.run(c.Context(), s)
		}}
	f := c.Flags()
	f.BoolVarP(&attach, "attach", "a", false, "Show output and hand on signals")
	f.BoolVarP(&interactive, "interactive", "i", false, "Attach standard input")
	f.StringVar(&keys, "detach-keys", "", "Keys that detach")
	f.StringVar(&o.CheckpointID, "checkpoint", "", "Restore from this checkpoint")
	checkpointDir(c, &o.CheckpointDir)
	return c
}
