package builtin

import (
	"context"
	"path/filepath"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
)

// doorConfig is where a door listens.
type doorConfig struct {
	// Address is the unix socket's path; empty is the daemon's own default.
	Address string `toml:"address"`
	// UID owns the socket.
	UID int `toml:"uid"`
	// GID may use the socket, too.
	GID int `toml:"gid"`
}

func (c doorConfig) socket(state, name string) grpc.Socket {
	if c.Address == "" {
		c.Address = filepath.Join(state, name)
	}
	return grpc.Socket{Path: c.Address, UID: c.UID, GID: c.GID}
}

func doorGRPC(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "grpc", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		s.Required()
		cfg := plugins.Config(s, doorConfig{})
		services := plugins.All(s, kinds.Service)
		sock := cfg.socket(s.Settings().State, "orlopd.sock")
		s.Export("address", sock.Path)
		return func(context.Context) (kinds.Server, error) {
			var list []grpc.Service
			for _, svc := range services() {
				list = append(list, svc)
			}
			return grpc.Listen(sock, list)
		}
	})
}

func doorTTRPC(r *plugins.Registry) {
	plugins.Provide(r, kinds.Door, "ttrpc", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		s.Required()
		cfg := plugins.Config(s, doorConfig{})
		bus := plugins.One(s, kinds.Events)
		sock := cfg.socket(s.Settings().State, "orlopd.sock.ttrpc")
		s.Export("address", sock.Path)
		return func(context.Context) (kinds.Server, error) { return grpc.ListenTTRPC(sock, bus()) }
	})
}
