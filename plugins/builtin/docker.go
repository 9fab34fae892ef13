package builtin

import (
	"context"
	"path/filepath"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/docker"
	"github.com/orlop/orlop/services/engine"
)

// containerEngine adds the use-cases behind the Docker API.
func containerEngine(r *plugins.Registry) {
	plugins.Provide(r, kinds.Engine, "local", func(s *plugins.Scope) plugins.Build[*engine.Engine] {
		cfg := plugins.Config(s, engine.Config{})
		db, bus, runtime := plugins.One(s, kinds.Metadata), plugins.One(s, kinds.Events), plugins.One(s, kinds.Runtime)
		unpacker, transfers := plugins.One(s, kinds.Unpacker), plugins.One(s, kinds.Transfer)
		archiver, drivers := plugins.One(s, kinds.Archiver), plugins.All(s, kinds.Snapshotter)
		chosen := s.Settings().Defaults[kinds.Snapshotter.Name()]
		at := engine.Where{Root: s.Root(), State: s.State(), Sockets: filepath.Join(s.Settings().State, "a")}
		return func(ctx context.Context) (*engine.Engine, error) {
			return engine.Open(ctx, at, engine.Parts{
				Containers: db().Containers(), Images: db().Images(), Content: db().Content(), Leases: db().Leases(),
				Bus: bus(), Tasks: runtime(), Unpack: unpacker(), Transfer: transfers(), Archive: archiver(),
				Snapshots: db().Snapshotter, Snapshotter: clientsDefault(db(), chosen, drivers()), Config: *cfg,
			})
		}
	})
}

func doorDocker(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Door, "docker", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, doorConfig{})
		e := plugins.One(s, kinds.Engine)
		sock := cfg.socket()
		if sock.Path == "" {
			sock.Path = filepath.Join(s.Settings().State, "docker.sock")
		}
		s.Export("address", sock.Path)
		info := docker.Info{Version: version.Release, Revision: version.Revision(), Root: s.Settings().Root, Address: d.grpcAddress(s)}
		return func(context.Context) (kinds.Server, error) {
			l, err := sock.Listen()
			if err != nil {
				return nil, err
			}
			return docker.Serve(l, sock.Path, e(), info), nil
		}
	})
}
