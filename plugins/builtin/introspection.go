package builtin

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/kinds"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/shims/manager"
)

func introspection(r *plugins.Registry, d *Daemon) {
	plugins.Provide(r, kinds.Service, "introspection", func(s *plugins.Scope) plugins.Build[grpc.Service] {
		db, shims := plugins.One(s, kinds.Metadata), plugins.One(s, kinds.Runtime)
		return func(context.Context) (grpc.Service, error) {
			return &grpc.Introspection{UUID: db().UUID(), Graph: d.Graph, Info: runtimeInfo(shims())}, nil
		}
	})
}

// runtimeInfo lets the runtime plugin tell of a shim; the others have nothing to
// tell.
func runtimeInfo(m *manager.Manager) func(context.Context, string, string, typeurl.Any) (typeurl.Any, error) {
	return func(ctx context.Context, kind, name string, options typeurl.Any) (typeurl.Any, error) {
		if kind != kinds.Runtime.Name() {
			return nil, fmt.Errorf("plugin %s.%s has nothing to tell: %w", kind, name, errdefs.ErrNotImplemented)
		}
		req := &types.RuntimeRequest{}
		if options != nil {
			if err := typeurl.UnmarshalTo(options, req); err != nil {
				return nil, fmt.Errorf("options: %w: %w", err, errdefs.ErrInvalidArgument)
			}
		}
		info, err := m.Info(ctx, req)
		if err != nil {
			return nil, err
		}
		return typeurl.MarshalAny(info)
	}
}
