package builtin

import (
	"context"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/streaming"
	"github.com/orlop/orlop/services/transfer"
)

func transfers(r *plugins.Registry) {
	plugins.Provide(r, kinds.Pusher, "local", func(s *plugins.Scope) plugins.Build[*push.Pusher] {
		cfg := plugins.Config(s, push.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		return func(context.Context) (*push.Pusher, error) {
			return push.New(*cfg, push.Stores{Content: db().Content(), Images: db().Images(), Leases: db().Leases()}), nil
		}
	})
	plugins.Provide(r, kinds.Archiver, "local", func(s *plugins.Scope) plugins.Build[*archive.Archiver] {
		cfg := plugins.Config(s, archive.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		return func(context.Context) (*archive.Archiver, error) { return archive.New(*cfg, db().Content()), nil }
	})
	plugins.Provide(r, kinds.Transfer, "local", func(s *plugins.Scope) plugins.Build[*transfer.Service] {
		cfg := plugins.Config(s, transfer.DefaultConfig())
		db := plugins.One(s, kinds.Metadata)
		puller, pusher := plugins.One(s, kinds.Puller), plugins.One(s, kinds.Pusher)
		archiver, unpacker := plugins.One(s, kinds.Archiver), plugins.One(s, kinds.Unpacker)
		s.Platforms(hostPlatform())
		return func(context.Context) (*transfer.Service, error) {
			return transfer.New(*cfg, transfer.Parts{
				Content: db().Content(), Images: db().Images(), Leases: db().Leases(),
				Puller: puller(), Pusher: pusher(), Archive: archiver(), Unpack: unpacker(),
			}), nil
		}
	})
	plugins.Provide(r, kinds.Streaming, "manager", func(s *plugins.Scope) plugins.Build[*streaming.Manager] {
		cfg := plugins.Config(s, streaming.DefaultConfig())
		return func(context.Context) (*streaming.Manager, error) { return streaming.New(*cfg), nil }
	})
	plugins.Provide(r, kinds.Service, "streaming", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		streams := plugins.One(s, kinds.Streaming)
		return func(context.Context) (grpc.Service, error) { return &grpc.Streaming{Manager: streams()}, nil }
	})
	plugins.Provide(r, kinds.Service, "transfer", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		service, streams := plugins.One(s, kinds.Transfer), plugins.One(s, kinds.Streaming)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Transfer{Service: service(), Streams: streams()}, nil
		}
	})
}
