package builtin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/docker"
	"github.com/orlop/orlop/services/engine"
	"github.com/orlop/orlop/services/grpc"
)

// containerEngine adds the use-cases behind the Docker API.
func containerEngine(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Engine, "local", func(s *plugins.Scope) plugins.Build[*engine.Engine] {
		cfg := plugins.Config(s, engine.DefaultConfig())
		db, bus, runtime := plugins.One(s, kinds.Metadata), plugins.One(s, kinds.Events), plugins.One(s, kinds.Runtime)
		unpacker, transfers := plugins.One(s, kinds.Unpacker), plugins.One(s, kinds.Transfer)
		archiver, drivers := plugins.One(s, kinds.Archiver), plugins.All(s, kinds.Snapshotter)
		nets := plugins.Optional(s, kinds.Networks)
		kept := plugins.One(s, kinds.Volumes)
		chosen := s.Settings().Defaults[kinds.Snapshotter.Name()]
		at := engine.Where{Root: s.Root(), State: s.State(), Sockets: filepath.Join(s.Settings().State, "a")}
		return func(ctx context.Context) (*engine.Engine, error) {
			connect, _ := nets()
			return engine.Open(ctx, at, engine.Parts{
				Containers: db().Containers(), Images: db().Images(), Content: db().Content(), Leases: db().Leases(),
				Bus: bus(), Tasks: runtime(), Unpack: unpacker(), Transfer: transfers(), Archive: archiver(), Volumes: kept(),
				Snapshots: db().Snapshotter, Snapshotter: clientsDefault(db(), chosen, drivers()), Config: *cfg,
				Networks: connect, Rootless: d.Ports != nil, Unlimited: d.Ports != nil && unlimited(),
			})
		}
	})
}

// unlimited tells that this process may make no control groups: it is no root, or in a
// user namespace.
func unlimited() bool {
	for _, dir := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		if unix.Access(dir, unix.W_OK) == nil {
			return false
		}
	}
	return true
}

// dockerConfig is where the Docker Engine API is served.
type dockerConfig struct {
	// Address is the unix socket's path; empty is a socket in the state folder.
	Address string `toml:"address"`
	// UID owns the socket.
	UID int `toml:"uid"`
	// GID may use the socket, too. Who may is as good as root.
	GID int `toml:"gid"`
	// Experimental tells clients that they may offer commands that are experimental
	// with Docker, as docker checkpoint is.
	Experimental bool `toml:"experimental"`
	// TCP is a socket for other machines.
	TCP tcpConfig `toml:"tcp"`
}

// tcpConfig is a TCP socket, whose clients must show certificates.
type tcpConfig struct {
	// Listen is host:port; empty is no such socket.
	Listen string `toml:"listen"`
	// CA is the file with the certificates (PEM) of those who sign clients'.
	CA string `toml:"ca"`
	// Cert is the file with the daemon's certificate.
	Cert string `toml:"cert"`
	// Key is the file with the daemon's key, which its owner alone may read.
	Key string `toml:"key"`
}

func (c tcpConfig) tls() docker.TLS { return docker.TLS(c) }

// Validate checks paths, and that a TCP socket has its certificates.
func (c *dockerConfig) Validate() error {
	if err := c.TCP.tls().Validate(); err != nil {
		return fmt.Errorf("tcp.%w", err)
	}
	return (&doorConfig{Address: c.Address}).Validate()
}

func doorDocker(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Door, "docker", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		cfg := plugins.Config(s, dockerConfig{})
		e, builds, db := plugins.One(s, kinds.Engine), plugins.Optional(s, kinds.Builder), plugins.One(s, kinds.Metadata)
		sock := grpc.Socket{Path: cfg.Address, UID: cfg.UID, GID: cfg.GID}
		if sock.Path == "" {
			sock.Path = filepath.Join(s.Settings().State, "docker.sock")
		}
		s.Export("address", sock.Path)
		info := docker.Info{Version: version.Release, Revision: version.Revision(), Root: s.Settings().Root, Address: d.grpcAddress(s), Experimental: cfg.Experimental,
			Debug: s.Settings().Debug.Level == "debug" || s.Settings().Debug.Level == "trace"}
		return func(context.Context) (kinds.Server, error) {
			builder, _ := builds()
			info.ID = db().UUID()
			l, err := sock.Listen()
			if err != nil {
				return nil, err
			}
			if cfg.TCP.Listen == "" {
				return docker.Serve(sock.Path, e(), builder, info, l), nil
			}
			remote, err := cfg.TCP.tls().Open()
			if err != nil {
				return nil, errors.Join(err, l.Close())
			}
			return docker.Serve(sock.Path, e(), builder, info, l, remote), nil
		}
	})
}
