package builtin

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/log"

	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/build"
	"github.com/orlop/orlop/services/collect"
	"github.com/orlop/orlop/services/remote"
)

// buildConfig is how images are built.
type buildConfig struct {
	// Snapshotter is what trees of builds are kept by; empty is that of containers.
	Snapshotter string `toml:"snapshotter"`
	// Runtime is the program, with runc's command line, that runs steps. Empty is
	// orlop-runtime, beside the daemon or in PATH.
	Runtime string `toml:"runtime"`
	// Cache bounds what is kept for later builds, in bytes; 0 is 20 GiB.
	Cache int64 `toml:"cache"`
	// ContextBytes bounds what a context that a client sends as an archive (docker build
	// without BuildKit, SDKs) is when it is unpacked, in bytes; 0 is no bound.
	ContextBytes int64 `toml:"context_bytes"`
	// ContextEntries bounds its files, folders and links; 0 is no bound.
	ContextEntries int64 `toml:"context_entries"`
	// Parallel bounds steps that run at once; 0 is no bound.
	Parallel int64 `toml:"parallel"`
	// AllowInsecure lets builds ask for all privileges (RUN --security=insecure).
	AllowInsecure bool `toml:"allow_insecure"`
	// AllowHost lets builds ask for the host's network (RUN --network=host).
	AllowHost bool `toml:"allow_host"`
}

// Validate checks the bounds.
func (c *buildConfig) Validate() error {
	if c.Cache < 0 || c.Parallel < 0 || c.ContextBytes < 0 || c.ContextEntries < 0 {
		return fmt.Errorf("cache is %d, parallel %d, context_bytes %d, context_entries %d: none can be negative", c.Cache, c.Parallel, c.ContextBytes, c.ContextEntries)
	}
	return nil
}

// runtime finds the program that runs steps.
func (c *buildConfig) runtime() string {
	if c.Runtime != "" {
		return c.Runtime
	}
	const name = "orlop-runtime"
	if own, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(own), name); isFile(beside) {
			return beside
		}
	}
	return name
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func builder(r *plugins.Registry) {
	plugins.Provide(r, kinds.Builder, "buildkit", func(s *plugins.Scope) plugins.Build[*build.Builder] {
		cfg := plugins.Config(s, buildConfig{AllowHost: true, ContextBytes: build.DefaultContextBytes, ContextEntries: build.DefaultContextEntries})
		db, differ, drivers := plugins.One(s, kinds.Metadata), plugins.One(s, kinds.Differ), plugins.All(s, kinds.Snapshotter)
		nets, transfers, containers := plugins.Optional(s, kinds.Networks), plugins.Optional(s, kinds.Transfer), plugins.Optional(s, kinds.Engine)
		chosen := s.Settings().Defaults[kinds.Snapshotter.Name()]
		root, state, temp := s.Root(), s.State(), ""
		if s.Settings().Temp == "" {
			temp = filepath.Join(s.Settings().Root, "tmp")
		}
		return func(ctx context.Context) (*build.Builder, error) {
			connect, _ := nets()
			name := cfg.Snapshotter
			if name == "" {
				name = clientsDefault(db(), chosen, drivers())(ctx)
			}
			// BuildKit mounts trees and secrets in the folder for temporary files, which is
			// the program's to set (TMPDIR): the next start sweeps it if it is ours alone.
			var endpoints func(string) ([]remote.Endpoint, error)
			if t, ok := transfers(); ok {
				endpoints = t.Endpoints
			}
			var users *userns.Maps
			if e, ok := containers(); ok {
				users = e.Users()
			}
			b, err := build.New(build.Config{Root: root, State: state, Temp: temp, Snapshotter: name, Runtime: cfg.runtime(), Cache: cfg.Cache, Parallel: cfg.Parallel,
				ContextBytes: cfg.ContextBytes, ContextEntries: cfg.ContextEntries, Insecure: cfg.AllowInsecure, Host: cfg.AllowHost},
				build.Parts{Content: db().Content(), Images: db().Images(), Leases: db().Leases(), Applier: differ(), Comparer: differ(), Snapshots: db().Snapshotter,
					Networks: connect, Users: users, Endpoints: endpoints, Collect: func(ctx context.Context) error { _, err := collect.Now(ctx, db(), false); return err }})
			if err == nil {
				if serr := b.Sweep(ctx); serr != nil {
					log.G(ctx).WithError(serr).Warn("some leftovers of builds could not be removed; they are tried again at the next start")
				}
			}
			return b, err
		}
	})
}

// buildKitDoor serves BuildKit's own API on a socket.
type buildKitDoor struct {
	path string
	l    net.Listener
	stop context.CancelFunc
	work sync.WaitGroup
}

// Address is the socket's path.
func (d *buildKitDoor) Address() string { return d.path }

// Close ends the connections.
func (d *buildKitDoor) Close() error {
	d.stop()
	err := d.l.Close()
	d.work.Wait()
	return err
}

func (d *buildKitDoor) serve(ctx context.Context, b *build.Builder) {
	for {
		conn, err := d.l.Accept()
		if err != nil {
			return
		}
		d.work.Go(func() {
			if err := b.Serve(ctx, conn); err != nil {
				log.G(ctx).WithError(err).Warn("a client of BuildKit's API")
			}
		})
	}
}

func doorBuildKit(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "buildkit", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, doorConfig{})
		b := plugins.One(s, kinds.Builder)
		sock := cfg.socket()
		if sock.Path == "" {
			sock.Path = filepath.Join(s.Settings().State, "buildkitd.sock")
		}
		s.Export("address", sock.Path)
		return func(context.Context) (kinds.Server, error) {
			l, err := sock.Listen()
			if err != nil {
				return nil, err
			}
			d := &buildKitDoor{path: sock.Path, l: l}
			ctx, stop := context.WithCancel(context.Background())
			d.stop = stop
			d.work.Go(func() { d.serve(ctx, b()) })
			return d, nil
		}
	})
}
