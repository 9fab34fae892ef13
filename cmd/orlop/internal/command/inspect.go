package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/orlop/orlop/cmd/internal/session"
	"github.com/orlop/orlop/cmd/orlop/internal/show"
)

// finder looks for a thing of one kind.
type finder struct {
	kind string
	find func(ctx context.Context, e *client.Client, ref string, size bool) (any, []byte, error)
}

// finders are in the order in which a name that several things have is looked for.
var finders = []finder{
	{"container", func(ctx context.Context, e *client.Client, ref string, size bool) (any, []byte, error) {
		got, err := e.ContainerInspect(ctx, ref, client.ContainerInspectOptions{Size: size})
		return got.Container, got.Raw, err
	}},
	{"image", func(ctx context.Context, e *client.Client, ref string, _ bool) (any, []byte, error) {
		var raw bytes.Buffer
		got, err := e.ImageInspect(ctx, ref, client.ImageInspectWithRawResponse(&raw))
		return got.InspectResponse, raw.Bytes(), err
	}},
	{"network", func(ctx context.Context, e *client.Client, ref string, _ bool) (any, []byte, error) {
		got, err := e.NetworkInspect(ctx, ref, client.NetworkInspectOptions{})
		return got.Network, got.Raw, err
	}},
	{"volume", func(ctx context.Context, e *client.Client, ref string, _ bool) (any, []byte, error) {
		got, err := e.VolumeInspect(ctx, ref, client.VolumeInspectOptions{})
		return got.Volume, got.Raw, err
	}},
}

func inspectCommand(s *session.Session) *cobra.Command {
	var format, kind string
	var size bool
	c := &cobra.Command{Use: "inspect [OPTIONS] NAME|ID [NAME|ID...]", Short: "Print details of anything", Args: usage(1, -1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			return show.Inspect(s, args, format, func(ref string) (any, []byte, error) {
				for _, f := range finders {
					if kind != "" && kind != f.kind {
						continue
					}
					got, raw, err := f.find(c.Context(), e, ref, size)
					if err == nil || !absent(err) {
						return got, raw, err
					}
					if kind != "" {
						return nil, nil, err
					}
				}
				if kind != "" {
					return nil, nil, fmt.Errorf("%q is not a valid value for --type", kind)
				}
				return nil, nil, errors.New("No such object: " + ref)
			})
		}}
	inspectFlags(c, &format)
	c.Flags().BoolVarP(&size, "size", "s", false, "Show sizes of containers")
	c.Flags().StringVar(&kind, "type", "", "container, image, network or volume")
	return c
}

// absent tells that something isn't there, or couldn't be by its name.
func absent(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) || errdefs.IsNotImplemented(err) || strings.Contains(err.Error(), "page not found")
}
