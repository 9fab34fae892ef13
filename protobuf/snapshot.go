package protobuf

import (
	wire "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/snapshotters"
)

// ToMounts writes mounts.
func ToMounts(mounts []mount.Mount) []*types.Mount {
	return Each(mounts, func(m mount.Mount) *types.Mount {
		return &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	})
}

// FromMounts reads mounts.
func FromMounts(mounts []*types.Mount) []mount.Mount {
	return Each(mounts, func(m *types.Mount) mount.Mount {
		return mount.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()}
	})
}

// ToSnapshotInfo writes what is known of a snapshot.
func ToSnapshotInfo(i snapshotters.Info) *wire.Info {
	return &wire.Info{
		Name: i.Name, Parent: i.Parent, Kind: wire.Kind(i.Kind), Labels: i.Labels, CreatedAt: ToTime(i.Created), UpdatedAt: ToTime(i.Updated),
	}
}

// FromSnapshotInfo reads what is known of a snapshot.
func FromSnapshotInfo(i *wire.Info) snapshotters.Info {
	return snapshotters.Info{
		Name: i.GetName(), Parent: i.GetParent(), Kind: snapshotters.Kind(i.GetKind()), Labels: i.GetLabels(),
		Created: FromTime(i.GetCreatedAt()), Updated: FromTime(i.GetUpdatedAt()),
	}
}
