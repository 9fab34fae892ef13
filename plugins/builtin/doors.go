package builtin

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

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

// Validate checks that the address is one that doesn't depend on where the
// daemon was started.
func (c *doorConfig) Validate() error {
	if c.Address != "" && !filepath.IsAbs(c.Address) {
		return fmt.Errorf("address: %q is no absolute path", c.Address)
	}
	return nil
}

func (c doorConfig) socket() grpc.Socket {
	return grpc.Socket{Path: c.Address, UID: c.UID, GID: c.GID}
}

// grpcConfig is where the gRPC door listens, and what it takes.
type grpcConfig struct {
	// Address is the unix socket's path; empty is a socket in the state folder.
	Address string `toml:"address"`
	// UID owns the socket.
	UID int `toml:"uid"`
	// GID may use the socket, too.
	GID int `toml:"gid"`
	// MaxRecv is the largest message that is taken, in bytes.
	MaxRecv int `toml:"max_recv_message_size"`
	// MaxSend is the largest message that is sent, in bytes.
	MaxSend int `toml:"max_send_message_size"`
}

// largestMessage bounds what the sizes may be set to, in bytes: each call may
// hold that much memory.
const largestMessage = 256 << 20

// Validate checks address and sizes.
func (c *grpcConfig) Validate() error {
	for key, n := range map[string]int{"max_recv_message_size": c.MaxRecv, "max_send_message_size": c.MaxSend} {
		if n < 0 || n > largestMessage {
			return fmt.Errorf("%s: %d is not between 0 and %d", key, n, largestMessage)
		}
	}
	return (&doorConfig{Address: c.Address}).Validate()
}

// grpcID is the gRPC door's name in the config.
var grpcID = kinds.Door.Name() + ".grpc"

func defaultGRPC() grpcConfig {
	return grpcConfig{MaxRecv: grpc.MaxMessage, MaxSend: grpc.MaxMessage}
}

// address is where clients find the gRPC door, by its config.
func (d *Daemon) address(s *plugins.Scope, cfg grpcConfig) string {
	if cfg.Address != "" {
		return cfg.Address
	}
	return filepath.Join(s.Settings().State, d.socket())
}

// grpcAddress is where clients find the gRPC door, for other providers.
func (d *Daemon) grpcAddress(s *plugins.Scope) string {
	return d.address(s, plugins.Look(s, grpcID, defaultGRPC()))
}

func doorGRPC(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Door, "grpc", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		s.Required()
		cfg := plugins.Config(s, defaultGRPC())
		services, own := plugins.All(s, kinds.Service), plugins.All(s, kinds.Own)
		figures, traces := plugins.Optional(s, kinds.Metrics), plugins.Optional(s, kinds.Tracing)
		sock := grpc.Socket{Path: d.address(s, *cfg), UID: cfg.UID, GID: cfg.GID, MaxRecv: cfg.MaxRecv, MaxSend: cfg.MaxSend}
		s.Export("address", sock.Path)
		return func(context.Context) (kinds.Server, error) {
			var list []grpc.Service
			list = slices.AppendSeq(list, maps.Values(services()))
			list = slices.AppendSeq(list, maps.Values(own()))
			if m, ok := figures(); ok {
				sock.Watchers = append(sock.Watchers, m)
			}
			if t, ok := traces(); ok {
				sock.Watchers = append(sock.Watchers, t.Handler())
			}
			return grpc.Listen(sock, list)
		}
	})
}

func doorTTRPC(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Door, "ttrpc", func(s *plugins.Scope) plugins.Build[kinds.Server] {
		s.Required()
		cfg := plugins.Config(s, doorConfig{})
		bus := plugins.One(s, kinds.Events)
		sock := cfg.socket()
		if sock.Path == "" {
			sock.Path = d.grpcAddress(s) + ".ttrpc"
		}
		s.Export("address", sock.Path)
		return func(context.Context) (kinds.Server, error) { return grpc.ListenTTRPC(sock, bus()) }
	})
}
