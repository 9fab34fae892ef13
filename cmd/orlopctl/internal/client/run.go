package client

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/core/label"
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
	// Passing says that the container is removed when it has ended, so that nobody
	// wants its writes after a crash.
	Passing bool
	// SystemdCgroup makes the runtime place the container by systemd.
	SystemdCgroup bool
}

// snapshotLabels are those of the container's root file system.
func (o ContainerOptions) snapshotLabels() map[string]string {
	if o.Passing {
		return map[string]string{label.SnapshotVolatile: "true"}
	}
	return nil
}

// Container is a container that was made.
type Container struct {
	ID          string
	Snapshotter string
	// Mounts are its root file system.
	Mounts []*types.Mount
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
