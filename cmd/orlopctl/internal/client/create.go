package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/services/spec"
)

// CreateContainer makes the snapshot and the container. On an error nothing
// stays of them.
//
// The first time an image is used, its blobs are read and its account files
// looked up in the snapshot, with a lease that keeps the collector away. After
// that all is known, and the container's record and its snapshot are made at once.
func (c *Client) CreateContainer(ctx context.Context, o ContainerOptions) (*Container, error) {
	if o.Image == "" {
		return c.createInFolder(ctx, o)
	}
	record, err := c.Find(ctx, o.Image)
	if err != nil {
		return nil, err
	}
	if k := c.recall(record.Target.Digest); k != nil && k.fits(o) {
		made, err := c.createKnown(ctx, o, record, k)
		if !errors.Is(err, errNotUnpacked) {
			return made, err
		}
		c.forget(record.Target.Digest)
	}
	return c.createUnknown(ctx, o, record)
}

// errNotUnpacked says that the snapshot to start from is gone.
var errNotUnpacked = errors.New("image is not unpacked")

// fits reports whether what is known is enough for a container.
func (k *known) fits(o ContainerOptions) bool {
	return (o.Snapshotter == "" || o.Snapshotter == k.Snapshotter) && (k.HasAccounts || !needsAccounts(o, k.Config.User))
}

func needsAccounts(o ContainerOptions, user string) bool {
	if o.Spec.User != "" {
		user = o.Spec.User
	}
	return spec.NeedsAccounts(user, o.Spec.ExtraGroups)
}

func (c *Client) createKnown(ctx context.Context, o ContainerOptions, record *images.Image, k *known) (*Container, error) {
	o.Spec.Image = k.Config
	if k.HasAccounts {
		o.Spec.Rootfs = accounts{passwdFile: k.Passwd, groupFile: k.Group}
	}
	made := &Container{ID: o.ID, Snapshotter: k.Snapshotter}
	// Side by side: the record keeps the snapshot, and before the collector removes
	// anything it looks at what was made since it began.
	var recorded, prepared error
	both(func() error { recorded = c.createRecord(ctx, o, record.Name, made); return nil },
		func() error { made.Mounts, prepared = c.prepare(ctx, made, k.Chain, o.snapshotLabels()); return nil })
	if recorded == nil && prepared == nil {
		return made, nil
	}
	if recorded == nil {
		c.deleteRecord(ctx, o.ID)
	}
	if prepared == nil {
		undo, cancel := detached(ctx)
		defer cancel()
		c.removeSnapshot(undo, made.Snapshotter, made.ID)
	}
	if status.Code(prepared) == codes.NotFound && recorded == nil {
		return nil, errNotUnpacked
	}
	return nil, cmp.Or(recorded, prepared)
}

func (c *Client) deleteRecord(ctx context.Context, id string) {
	ctx, cancel := detached(ctx)
	defer cancel()
	containers.NewContainersClient(c.conn).Delete(ctx, &containers.DeleteContainerRequest{ID: id})
}

// createRecord makes the spec and the container's record.
func (c *Client) createRecord(ctx context.Context, o ContainerOptions, image string, made *Container) error {
	s, err := spec.Generate(o.Spec)
	if err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	record := &containers.Container{
		ID: o.ID, Labels: o.Labels, Image: image, Spec: &anypb.Any{TypeUrl: specType + "Spec", Value: data},
	}
	if made.Snapshotter != "" {
		record.Snapshotter, record.SnapshotKey = made.Snapshotter, o.ID
	}
	if record.Runtime, err = runtimeOf(o); err != nil {
		return err
	}
	_, err = containers.NewContainersClient(c.conn).Create(ctx, &containers.CreateContainerRequest{Container: record})
	return existing(err, o.ID)
}

// existing says of what there is one by that name already.
func existing(err error, id string) error {
	if status.Code(err) == codes.AlreadyExists {
		return fmt.Errorf("a container or snapshot %q exists already", id)
	}
	return err
}

// prepare makes the container's root file system.
func (c *Client) prepare(ctx context.Context, made *Container, parent string, labels map[string]string) ([]*types.Mount, error) {
	r, err := snapshots.NewSnapshotsClient(c.conn).Prepare(ctx, &snapshots.PrepareSnapshotRequest{
		Snapshotter: made.Snapshotter, Key: made.ID, Parent: parent, Labels: labels,
	})
	return r.GetMounts(), existing(err, made.ID)
}

// createInFolder makes a container whose root file system is a folder.
func (c *Client) createInFolder(ctx context.Context, o ContainerOptions) (*Container, error) {
	o.Spec.RootPath = o.Rootfs
	root, err := os.OpenRoot(o.Rootfs) // symlinks in it can't lead out
	if err != nil {
		return nil, err
	}
	defer root.Close()
	o.Spec.Rootfs = root.FS()
	made := &Container{ID: o.ID}
	return made, c.createRecord(ctx, o, "", made)
}

// createUnknown makes a container of an image that nothing is known of yet.
func (c *Client) createUnknown(ctx context.Context, o ContainerOptions, record *images.Image) (*Container, error) {
	lease := "orlopctl-" + randomID()
	var img *Image
	err := both(func() error {
		var err error
		img, err = c.details(ctx, record, "")
		return err
	}, func() error { return c.lease(ctx, lease) })
	// The lease has done its work whatever happens; its end isn't waited for.
	unleased := ctx
	defer c.background.Go(func() { c.unlease(unleased, lease) })
	if err != nil {
		return nil, err
	}
	ctx = withLease(ctx, lease)
	made := &Container{ID: o.ID, Snapshotter: c.chooseSnapshotter(ctx, o, img)}
	parent := img.Unpacked[made.Snapshotter]
	if parent == "" {
		if parent, err = c.Unpack(ctx, img, made.Snapshotter); err != nil {
			return nil, fmt.Errorf("unpack %s with %s: %w", img.Name, made.Snapshotter, err)
		}
	}
	if made.Mounts, err = c.prepare(ctx, made, parent, o.snapshotLabels()); err != nil {
		return nil, err
	}
	o.Spec.Image = img.Config.Config
	k := &known{Config: img.Config.Config, Chain: parent, Snapshotter: made.Snapshotter}
	err = withAccounts(ctx, made.Mounts, o, k, func(root fs.FS) error {
		o.Spec.Rootfs = root
		return c.createRecord(ctx, o, img.Name, made)
	})
	if err != nil {
		ctx, cancel := detached(ctx)
		defer cancel()
		c.removeSnapshot(ctx, made.Snapshotter, o.ID)
		return nil, err
	}
	c.remember(record.Target.Digest, k)
	return made, nil
}

func (c *Client) chooseSnapshotter(ctx context.Context, o ContainerOptions, img *Image) string {
	if o.Snapshotter != "" {
		return o.Snapshotter
	}
	if name := img.Snapshotter(); name != "" {
		return name
	}
	if have := c.Snapshotters(ctx); len(have) > 0 {
		return have[0]
	}
	return preferred[0]
}

// withAccounts calls do with the file system to find users in, and notes them in
// k; with none if users are given by their ids.
func withAccounts(ctx context.Context, rootfs []*types.Mount, o ContainerOptions, k *known, do func(fs.FS) error) error {
	if !needsAccounts(o, k.Config.User) {
		return do(nil)
	}
	return mounts.WithTempReadOnly(ctx, Mounts(rootfs), func(dir string) error {
		root, err := os.OpenRoot(dir) // symlinks in it can't lead out
		if err != nil {
			return err
		}
		defer root.Close()
		a, err := readAccounts(root.FS())
		if err != nil || !a.small() {
			return do(root.FS())
		}
		k.HasAccounts, k.Passwd, k.Group = true, a[passwdFile], a[groupFile]
		return do(a)
	})
}

func (c *Client) lease(ctx context.Context, id string) error {
	expire := time.Now().Add(leaseTime).UTC().Format(time.RFC3339)
	_, err := leases.NewLeasesClient(c.conn).Create(ctx, &leases.CreateRequest{
		ID: id, Labels: map[string]string{"containerd.io/gc.expire": expire},
	})
	return err
}

func (c *Client) unlease(ctx context.Context, id string) {
	ctx, cancel := detached(ctx)
	defer cancel()
	leases.NewLeasesClient(c.conn).Delete(ctx, &leases.DeleteRequest{ID: id}) // else it expires
}
