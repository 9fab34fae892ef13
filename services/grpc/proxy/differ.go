// Package proxy reaches providers that run as programs of their own: a differ and
// a sandbox controller behind containerd's services. Those of content and
// snapshots are drivers, in their ports' folders.
//
// Everything is safe for concurrent use and keeps nothing. The context's
// namespace and lease go along with each call. The connection belongs to its
// owner.
package proxy

import (
	"context"
	"fmt"

	wire "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/protobuf"
)

// outgoing passes on whose call it is.
func outgoing(ctx context.Context) context.Context {
	if ns, ok := namespaces.From(ctx); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, namespaces.Header, ns)
	}
	if id, ok := lease.From(ctx); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, lease.Header, id)
	}
	return ctx
}

func wrap(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("remote %s %s: %w", what, name, errgrpc.ToNative(err))
}

// Differ is a differ in another process. It reads and writes blobs through this
// daemon's content service, or knows them itself.
type Differ struct {
	client wire.DiffClient
	name   string
}

// NewDiffer talks to the diff service behind conn; the name is for messages.
func NewDiffer(conn grpc.ClientConnInterface, name string) *Differ {
	return &Differ{wire.NewDiffClient(conn), name}
}

var (
	_ diff.Applier  = (*Differ)(nil)
	_ diff.Comparer = (*Differ)(nil)
)

// Apply implements [diff.Applier].
func (d *Differ) Apply(ctx context.Context, layer ocispec.Descriptor, mounts []mount.Mount, opts diff.ApplyOptions) (ocispec.Descriptor, error) {
	r, err := d.client.Apply(outgoing(ctx), &wire.ApplyRequest{Diff: protobuf.ToDescriptor(layer), Mounts: protobuf.ToMounts(mounts), SyncFs: opts.SyncFS})
	return protobuf.FromDescriptor(r.GetApplied()), wrap("differ", d.name, err)
}

// Compare implements [diff.Comparer]. The diff ID isn't told by the service; it
// is the caller's to find out.
func (d *Differ) Compare(ctx context.Context, lower, upper []mount.Mount, opts diff.CompareOptions) (ocispec.Descriptor, error) {
	req := &wire.DiffRequest{
		Left: protobuf.ToMounts(lower), Right: protobuf.ToMounts(upper), MediaType: opts.MediaType, Ref: opts.Reference, Labels: opts.Labels,
	}
	if opts.SourceDateEpoch != nil {
		req.SourceDateEpoch = timestamppb.New(*opts.SourceDateEpoch)
	}
	r, err := d.client.Diff(outgoing(ctx), req)
	return protobuf.FromDescriptor(r.GetDiff()), wrap("differ", d.name, err)
}
