package protobuf

import (
	"github.com/containerd/containerd/api/services/containers/v1"

	"github.com/orlop/orlop/core/container"
)

// ToContainer writes a container.
func ToContainer(c container.Container) *containers.Container {
	return &containers.Container{
		ID: c.ID, Labels: c.Labels, Image: c.Image,
		Runtime: &containers.Container_Runtime{Name: c.Runtime.Name, Options: ToAny(c.Runtime.Options)},
		Spec:    ToAny(c.Spec), Snapshotter: c.Snapshotter, SnapshotKey: c.SnapshotKey, Sandbox: c.SandboxID,
		CreatedAt: ToTime(c.Created), UpdatedAt: ToTime(c.Updated), Extensions: toAnys(c.Extensions),
	}
}

// FromContainer reads a container.
func FromContainer(c *containers.Container) container.Container {
	return container.Container{
		ID: c.GetID(), Labels: c.GetLabels(), Image: c.GetImage(),
		Runtime: container.Runtime{Name: c.GetRuntime().GetName(), Options: FromAny(c.GetRuntime().GetOptions())},
		Spec:    FromAny(c.GetSpec()), Snapshotter: c.GetSnapshotter(), SnapshotKey: c.GetSnapshotKey(), SandboxID: c.GetSandbox(),
		Created: FromTime(c.GetCreatedAt()), Updated: FromTime(c.GetUpdatedAt()), Extensions: fromAnys(c.GetExtensions()),
	}
}
