package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/leases/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/services/spec"
)

// DefaultRuntime is the shim that runs containers.
const DefaultRuntime = "io.containerd.orlop.v1"

// leaseTime is how long the lease of a container in the making lives if this
// program dies.
const leaseTime = 10 * time.Minute

// ContainerOptions say what container is made.
type ContainerOptions struct {
	// ID of the container.
	ID string
	// Image to make it from; Rootfs, a folder, instead of it.
	Image, Rootfs string
	// Snapshotter, "" for the one the image is unpacked in.
	Snapshotter string
	// Runtime is a shim's name (io.containerd.runc.v2), a path of one, or the
	// name of an OCI runtime (crun).
	Runtime string
	// Labels of the container.
	Labels map[string]string
	// Spec holds everything about the process; Image and ID are filled in.
	Spec spec.Options
	// SystemdCgroup makes the runtime place the container by systemd.
	SystemdCgroup bool
}

// Container is a container that was made.
type Container struct {
	ID          string
	Snapshotter string
	// Mounts are its root file system.
	Mounts []*types.Mount
}

// CreateContainer makes the snapshot and the container. Until both are there, a
// lease keeps the collector away; on an error nothing stays.
func (c *Client) CreateContainer(ctx context.Context, o ContainerOptions) (*Container, error) {
	lease := "orlopctl-" + randomID()
	var img *Image
	err := both(func() error {
		if o.Image == "" {
			return nil
		}
		var err error
		img, err = c.Image(ctx, o.Image, "")
		return err
	}, func() error { return c.lease(ctx, lease) })
	if err != nil {
		return nil, errors.Join(err, c.unlease(ctx, lease))
	}
	made, err := c.createIn(withLease(ctx, lease), o, img)
	// The lease has done its work whatever happened; its end isn't waited for.
	c.background.Go(func() { c.unlease(ctx, lease) })
	return made, err
}

func (c *Client) lease(ctx context.Context, id string) error {
	expire := time.Now().Add(leaseTime).UTC().Format(time.RFC3339)
	_, err := leases.NewLeasesClient(c.conn).Create(ctx, &leases.CreateRequest{
		ID: id, Labels: map[string]string{"containerd.io/gc.expire": expire},
	})
	return err
}

func (c *Client) unlease(ctx context.Context, id string) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	_, err := leases.NewLeasesClient(c.conn).Delete(ctx, &leases.DeleteRequest{ID: id})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// createIn makes the snapshot, then the spec with the users found in it, then
// the container.
func (c *Client) createIn(ctx context.Context, o ContainerOptions, img *Image) (*Container, error) {
	record := &containers.Container{ID: o.ID, Labels: o.Labels}
	made := &Container{ID: o.ID}
	var err error
	if record.Runtime, err = runtimeOf(o); err != nil {
		return nil, err
	}
	if img != nil {
		if err := c.snapshot(ctx, o, img, made); err != nil {
			return nil, err
		}
		record.Image, record.Snapshotter, record.SnapshotKey = img.Name, made.Snapshotter, o.ID
		o.Spec.Image = img.Config.Config
	} else {
		o.Spec.RootPath = o.Rootfs
	}
	record.Spec, err = makeSpec(ctx, o, made.Mounts)
	if err == nil {
		_, err = containers.NewContainersClient(c.conn).Create(ctx, &containers.CreateContainerRequest{Container: record})
	}
	if err != nil && img != nil {
		ctx, cancel := detached(ctx)
		defer cancel()
		c.removeSnapshot(ctx, made.Snapshotter, o.ID)
	}
	return made, err
}

// snapshot prepares the container's root file system from the image's.
func (c *Client) snapshot(ctx context.Context, o ContainerOptions, img *Image, made *Container) error {
	made.Snapshotter = o.Snapshotter
	if made.Snapshotter == "" {
		made.Snapshotter = img.Snapshotter()
	}
	if made.Snapshotter == "" {
		if have := c.Snapshotters(ctx); len(have) > 0 {
			made.Snapshotter = have[0]
		}
	}
	parent := img.Unpacked[made.Snapshotter]
	if parent == "" {
		var err error
		if parent, err = c.Unpack(ctx, img, made.Snapshotter); err != nil {
			return fmt.Errorf("unpack %s with %s: %w", img.Name, made.Snapshotter, err)
		}
	}
	r, err := snapshots.NewSnapshotsClient(c.conn).Prepare(ctx, &snapshots.PrepareSnapshotRequest{
		Snapshotter: made.Snapshotter, Key: o.ID, Parent: parent,
	})
	if status.Code(err) == codes.AlreadyExists {
		return fmt.Errorf("a container or snapshot %q exists already", o.ID)
	}
	if err != nil {
		return err
	}
	made.Mounts = r.Mounts
	return nil
}

// makeSpec makes the spec, looking into the root file system if users or groups
// must be found there.
func makeSpec(ctx context.Context, o ContainerOptions, rootfs []*types.Mount) (*anypb.Any, error) {
	user := o.Spec.User
	if user == "" {
		user = o.Spec.Image.User
	}
	generate := func() (*anypb.Any, error) {
		s, err := spec.Generate(o.Spec)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(s)
		return &anypb.Any{TypeUrl: specType + "Spec", Value: data}, err
	}
	if !spec.NeedsAccounts(user, o.Spec.ExtraGroups) {
		return generate()
	}
	if rootfs == nil {
		return within(o.Rootfs, &o.Spec, generate)
	}
	var out *anypb.Any
	err := mounts.WithTempReadOnly(ctx, Mounts(rootfs), func(root string) error {
		var err error
		out, err = within(root, &o.Spec, generate)
		return err
	})
	return out, err
}

// within runs generate with a root file system to find users in. Symlinks in
// it can't lead out.
func within(dir string, o *spec.Options, generate func() (*anypb.Any, error)) (*anypb.Any, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	o.Rootfs = root.FS()
	return generate()
}

// runtimeOf names the shim: a name without dots is that of an OCI runtime
// program, which our shim starts instead of its own.
func runtimeOf(o ContainerOptions) (*containers.Container_Runtime, error) {
	r := &containers.Container_Runtime{Name: o.Runtime}
	opts := &options.Options{SystemdCgroup: o.SystemdCgroup}
	switch {
	case o.Runtime == "":
		r.Name = DefaultRuntime
	case !strings.ContainsAny(o.Runtime, "./"):
		r.Name, opts.BinaryName = DefaultRuntime, o.Runtime
	}
	if !opts.SystemdCgroup && opts.BinaryName == "" {
		return r, nil
	}
	a, err := pack(opts)
	r.Options = a
	return r, err
}

// RemoveContainer removes a container and its snapshot. With force its task is
// killed first.
func (c *Client) RemoveContainer(ctx context.Context, id string, force, keepSnapshot bool) error {
	api := containers.NewContainersClient(c.conn)
	r, err := api.Get(ctx, &containers.GetContainerRequest{ID: id})
	if err != nil {
		return err
	}
	if err := c.removeTask(ctx, id, force); err != nil {
		return err
	}
	if _, err := api.Delete(ctx, &containers.DeleteContainerRequest{ID: id}); err != nil {
		return err
	}
	os.RemoveAll(c.keepDir(id)) // fifos that were kept to attach to
	if r.Container.SnapshotKey == "" || keepSnapshot {
		return nil
	}
	return c.removeSnapshot(ctx, r.Container.Snapshotter, r.Container.SnapshotKey)
}

// removeTask removes a container's task if it has one.
func (c *Client) removeTask(ctx context.Context, id string, force bool) error {
	api := tasks.NewTasksClient(c.conn)
	_, err := api.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	switch code := status.Code(err); {
	case err == nil, code == codes.NotFound:
		return nil
	case force: // whatever the class: containerd 1 gives a running task none
	case code == codes.FailedPrecondition:
		return fmt.Errorf("container %s is running; stop it first, or use --force", id)
	default:
		return err
	}
	waited := make(chan error, 1)
	go func() {
		_, err := api.Wait(ctx, &tasks.WaitRequest{ContainerID: id})
		waited <- err
	}()
	if _, err := api.Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: 9, All: true}); err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	if err := <-waited; err != nil && status.Code(err) != codes.NotFound {
		return err
	}
	_, err = api.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

func (c *Client) removeSnapshot(ctx context.Context, snapshotter, key string) error {
	_, err := snapshots.NewSnapshotsClient(c.conn).Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// Discard removes a container made by this program, whose task has ended: the
// container and the snapshot side by side.
func (c *Client) Discard(ctx context.Context, made *Container) error {
	return both(func() error {
		_, err := containers.NewContainersClient(c.conn).Delete(ctx, &containers.DeleteContainerRequest{ID: made.ID})
		return err
	}, func() error {
		if made.Snapshotter == "" {
			return nil
		}
		return c.removeSnapshot(ctx, made.Snapshotter, made.ID)
	})
}

// HostFiles are mounts of the host's name service files, for containers in its
// network namespace.
func HostFiles() []specs.Mount {
	var out []specs.Mount
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} {
		if _, err := os.Stat(name); err == nil {
			out = append(out, specs.Mount{Destination: path.Clean(name), Type: "bind", Source: name, Options: []string{"rbind", "ro"}})
		}
	}
	return slices.Clip(out)
}
