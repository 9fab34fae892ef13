// Package proxy is a driver whose snapshots are in another process, behind
// containerd's snapshots service.
//
// The driver's IDs become keys of the remote: the snapshot id is the key
// "orlop-<id>" while active and the name "orlop-<id>.c" once committed, for
// there a key and a name are of one space. Names in the metadata database are
// unknown to the remote. Snapshotters that bring committed layers by themselves
// (by the label containerd.io/snapshot.ref) answer Prepare with AlreadyExists;
// that error is passed on.
//
// Methods are safe for concurrent use. Durability after Commit is the remote's
// promise. Close leaves the connection to its owner.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	wire "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/snapshotters"
)

const (
	prefix    = "orlop-"
	committed = ".c"
	// namespace is told to remotes that want one.
	namespace = "orlop"
	// maxListed bounds what a remote may list.
	maxListed = 10 << 20
)

// Driver is the snapshotter driver.
type Driver struct {
	client wire.SnapshotsClient
	name   string
}

var _ snapshotters.Driver = (*Driver)(nil)

// New talks to the snapshotter that the remote knows as name.
func New(conn grpc.ClientConnInterface, name string) *Driver {
	return &Driver{client: wire.NewSnapshotsClient(conn), name: name}
}

func key(id string) string  { return prefix + id }
func name(id string) string { return prefix + id + committed }

func outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
}

func (d *Driver) wrap(err error) error {
	return fmt.Errorf("remote snapshotter %s: %w", d.name, errgrpc.ToNative(err))
}

// Create implements [snapshotters.Driver].
func (d *Driver) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if err := errors.Join(checkID(s.ID), s.Refuse(d.name)); err != nil {
		return nil, err
	}
	parent := ""
	if len(s.Parents) > 0 {
		parent = name(s.Parents[0])
	}
	ctx = outgoing(ctx)
	if s.Kind == snapshotters.KindView {
		r, err := d.client.View(ctx, &wire.ViewSnapshotRequest{Snapshotter: d.name, Key: key(s.ID), Parent: parent, Labels: s.Labels})
		if err != nil {
			return nil, d.wrap(err)
		}
		return protobuf.FromMounts(r.GetMounts()), nil
	}
	r, err := d.client.Prepare(ctx, &wire.PrepareSnapshotRequest{Snapshotter: d.name, Key: key(s.ID), Parent: parent, Labels: s.Labels})
	if err != nil {
		return nil, d.wrap(err)
	}
	return protobuf.FromMounts(r.GetMounts()), nil
}

func checkID(id string) error {
	if len(id) == 0 || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("snapshot ID %q is not of the form [a-z0-9-]{1,64}: %w", id, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Mounts implements [snapshotters.Driver].
func (d *Driver) Mounts(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	r, err := d.client.Mounts(outgoing(ctx), &wire.MountsRequest{Snapshotter: d.name, Key: key(s.ID)})
	if err != nil {
		return nil, d.wrap(err)
	}
	return protobuf.FromMounts(r.GetMounts()), nil
}

// Commit implements [snapshotters.Driver].
func (d *Driver) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	req := &wire.CommitSnapshotRequest{Snapshotter: d.name, Name: name(s.ID), Key: key(s.ID), Labels: s.Labels}
	if _, err := d.client.Commit(outgoing(ctx), req); err != nil {
		return snapshotters.Usage{}, d.wrap(err)
	}
	return d.usage(ctx, name(s.ID))
}

// Usage implements [snapshotters.Driver].
func (d *Driver) Usage(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	return d.usage(ctx, key(s.ID))
}

func (d *Driver) usage(ctx context.Context, key string) (snapshotters.Usage, error) {
	r, err := d.client.Usage(outgoing(ctx), &wire.UsageRequest{Snapshotter: d.name, Key: key})
	if err != nil {
		return snapshotters.Usage{}, d.wrap(err)
	}
	return snapshotters.Usage{Inodes: r.GetInodes(), Size: r.GetSize()}, nil
}

// Remove implements [snapshotters.Driver].
func (d *Driver) Remove(ctx context.Context, id string) error {
	for _, k := range []string{key(id), name(id)} {
		_, err := d.client.Remove(outgoing(ctx), &wire.RemoveSnapshotRequest{Snapshotter: d.name, Key: k})
		if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
			return d.wrap(err)
		}
	}
	return nil
}

// List implements [snapshotters.Driver]. Snapshots of the remote's other users
// are left out.
func (d *Driver) List(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	stream, err := d.client.List(ctx, &wire.ListSnapshotsRequest{Snapshotter: d.name})
	if err != nil {
		return nil, d.wrap(err)
	}
	var ids []string
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			slices.Sort(ids)
			return slices.Compact(ids), nil
		}
		if err != nil {
			return nil, d.wrap(err)
		}
		for _, info := range r.GetInfo() {
			id, ours := strings.CutPrefix(info.GetName(), prefix)
			if id = strings.TrimSuffix(id, committed); ours && checkID(id) == nil {
				ids = append(ids, id)
			}
		}
		if len(ids) > maxListed {
			return nil, fmt.Errorf("remote snapshotter %s lists more than %d snapshots", d.name, maxListed)
		}
	}
}

// Close implements [snapshotters.Driver].
func (d *Driver) Close() error { return nil }
