// Package stores shows the daemon's stores to BuildKit, which knows them in the form of
// containerd's interfaces: what a build reads and makes is in them and nowhere else.
//
// The adapters keep nothing; they are as safe for concurrent use as what is behind.
package stores

import (
	"context"

	ctdleases "github.com/containerd/containerd/v2/core/leases"
	ctdnamespaces "github.com/containerd/containerd/v2/pkg/namespaces"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
)

// in gives our stores the namespace and the lease that a context carries in
// containerd's way. BuildKit names the namespace in some calls and not in others:
// then it is the one that builds are in.
func in(ctx context.Context) context.Context {
	ns, ok := ctdnamespaces.Namespace(ctx)
	if !ok {
		ns = namespaces.Default
	}
	ctx = namespaces.With(ctx, ns)
	if id, ok := ctdleases.FromContext(ctx); ok {
		ctx = lease.With(ctx, id)
	}
	return ctx
}
