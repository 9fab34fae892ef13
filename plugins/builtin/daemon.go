package builtin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/internal/hostport"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// Daemon is what providers may ask of the program around them. Its fields are
// set before the plan is made, but for System.
type Daemon struct {
	// Socket is the name of the gRPC socket in the state folder, where the config
	// has no address; "" is orlopd.sock.
	Socket string
	// Load reads the config, as at the start.
	Load func() (*config.Document, error)
	// Defaults are the settings of an empty config.
	Defaults config.Settings
	// Ports opens sockets of the host for a daemon of an ordinary user, which is in a
	// network namespace of its own; nil for others. It is set before the start.
	Ports *hostport.Client
	// System is set, by Started, once it has started.
	System atomic.Pointer[plugins.System]
	// up is closed then.
	up     chan struct{}
	upOnce sync.Once

	// doc is the config that was read last.
	doc atomic.Pointer[config.Document]
}

func (d *Daemon) socket() string {
	if d.Socket == "" {
		return "orlopd.sock"
	}
	return d.Socket
}

// Plan reads the config and checks it.
func (d *Daemon) Plan(r *plugins.Registry) (*plugins.Plan, error) {
	doc, err := d.Load()
	if err != nil {
		return nil, fmt.Errorf("the config has mistakes:\n%w", err)
	}
	plan, err := r.Plan(doc, d.Defaults)
	if err != nil {
		return nil, fmt.Errorf("the config has mistakes:\n%w", err)
	}
	d.doc.Store(doc)
	return plan, nil
}

// errStarting says that the daemon isn't complete yet.
var errStarting = fmt.Errorf("the daemon is still starting: %w", errdefs.ErrUnavailable)

// started is closed when the system has started.
func (d *Daemon) started() chan struct{} {
	d.upOnce.Do(func() { d.up = make(chan struct{}) })
	return d.up
}

// Started tells that the daemon is complete. It is called once.
func (d *Daemon) Started(sys *plugins.System) {
	d.System.Store(sys)
	close(d.started())
}

// Graph describes what is wired to what. While the daemon starts, some doors are
// open already: then it waits for the whole.
func (d *Daemon) Graph(ctx context.Context) (graph.Graph, error) {
	select {
	case <-d.started():
		return d.System.Load().Graph(), nil
	case <-ctx.Done():
		return graph.Graph{}, errStarting
	}
}

// Reload reads the config again and hands out what changed. With a mistake in
// it nothing changes, and the error is of class InvalidArgument.
func (d *Daemon) Reload(ctx context.Context) (changes []plugins.Change, warnings []string, err error) {
	sys := d.System.Load()
	if sys == nil {
		return nil, nil, errStarting
	}
	doc, err := d.Load()
	if err == nil {
		changes, err = sys.Reload(ctx, doc, d.Defaults)
	}
	if problems := (config.Problems)(nil); errors.As(err, &problems) {
		return nil, nil, fmt.Errorf("the config has mistakes, nothing has changed:\n%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, nil, err
	}
	d.doc.Store(doc)
	return changes, texts(doc.Warnings), nil
}

// Config is the config in force, with the files it was read from.
func (d *Daemon) Config(comments bool) (toml string, files, warnings []string, err error) {
	sys, doc := d.System.Load(), d.doc.Load()
	if sys == nil || doc == nil {
		return "", nil, nil, errStarting
	}
	return sys.Dump(comments), doc.Files, texts(doc.Warnings), nil
}

func texts(list config.Problems) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

// settings applies those of the daemon's own keys that can change while it runs.
func settings(r *plugins.Registry) {
	r.LiveSettings([]string{"debug"}, func(_ context.Context, next config.Settings) error {
		return SetLog(next.Debug)
	})
}

// SetLog sets what is logged and how.
func SetLog(d config.Debug) error {
	level, format := d.Level, d.Format
	if level == "" {
		level = "info"
	}
	if format == "" {
		format = string(log.TextFormat)
	}
	return errors.Join(log.SetLevel(level), log.SetFormat(log.OutputFormat(format)))
}
