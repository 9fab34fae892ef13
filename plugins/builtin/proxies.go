package builtin

import (
	"context"
	"strings"

	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	port "github.com/orlop/orlop/content"
	contentproxy "github.com/orlop/orlop/content/proxy"
	"github.com/orlop/orlop/core/sandbox"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/proxy"
	"github.com/orlop/orlop/snapshotters"
	snapshotproxy "github.com/orlop/orlop/snapshotters/proxy"
)

// proxies lets the config's proxy_plugins take the place of built-in parts. The
// connection is made with the first call, so a program that isn't up yet keeps
// nothing from starting; it ends with the daemon.
func proxies(r *plugins.Registry) {
	plugins.ProvideProxy(r, kinds.Snapshotter, "snapshot", func(s *plugins.Scope, p config.Proxy) plugins.Build[snapshotters.Driver] {
		return func(context.Context) (snapshotters.Driver, error) {
			conn, err := dial(p.Address)
			if err != nil {
				return nil, err
			}
			return &remoteDriver{snapshotproxy.New(conn, nameOf(s)), conn}, nil
		}
	})
	plugins.ProvideProxy(r, kinds.Content, "content", func(s *plugins.Scope, p config.Proxy) plugins.Build[port.Store] {
		return func(context.Context) (port.Store, error) {
			conn, err := dial(p.Address)
			if err != nil {
				return nil, err
			}
			return &remoteContent{contentproxy.New(conn, nameOf(s)), conn}, nil
		}
	})
	plugins.ProvideProxy(r, kinds.Differ, "diff", func(s *plugins.Scope, p config.Proxy) plugins.Build[grpc.Differ] {
		return func(context.Context) (grpc.Differ, error) {
			conn, err := dial(p.Address)
			if err != nil {
				return nil, err
			}
			return &remoteDiffer{proxy.NewDiffer(conn, nameOf(s)), conn}, nil
		}
	})
	plugins.ProvideProxy(r, kinds.SandboxController, "sandbox", func(s *plugins.Scope, p config.Proxy) plugins.Build[sandbox.Controller] {
		return func(context.Context) (sandbox.Controller, error) {
			conn, err := dial(p.Address)
			if err != nil {
				return nil, err
			}
			return &remoteController{proxy.NewController(conn, nameOf(s)), conn}, nil
		}
	})
}

func nameOf(s *plugins.Scope) string {
	id := s.ID() // kind, dot, name
	return id[strings.LastIndex(id, ".")+1:]
}

func dial(address string) (*ggrpc.ClientConn, error) {
	return ggrpc.NewClient("unix://"+strings.TrimPrefix(address, "unix://"), ggrpc.WithTransportCredentials(insecure.NewCredentials()),
		ggrpc.WithDefaultCallOptions(ggrpc.MaxCallRecvMsgSize(grpc.MaxMessage), ggrpc.MaxCallSendMsgSize(grpc.MaxMessage)))
}

// Providers that own their connection.
type (
	remoteDriver struct {
		*snapshotproxy.Driver
		conn *ggrpc.ClientConn
	}
	remoteContent struct {
		*contentproxy.Store
		conn *ggrpc.ClientConn
	}
	remoteDiffer struct {
		*proxy.Differ
		conn *ggrpc.ClientConn
	}
	remoteController struct {
		*proxy.Controller
		conn *ggrpc.ClientConn
	}
)

// Close ends the connection.
func (d *remoteDriver) Close() error     { return d.conn.Close() }
func (c *remoteContent) Close() error    { return c.conn.Close() }
func (d *remoteDiffer) Close() error     { return d.conn.Close() }
func (c *remoteController) Close() error { return c.conn.Close() }
