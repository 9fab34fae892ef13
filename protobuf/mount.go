package protobuf

import (
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/core/mount"
)

// ToActivation writes activated mounts.
func ToActivation(a mount.Activation) *types.ActivationInfo {
	return &types.ActivationInfo{Name: a.Name, Labels: a.Labels, System: ToMounts(a.System), Active: Each(a.Active, func(x mount.Active) *types.ActiveMount {
		return &types.ActiveMount{
			Mount:     &types.Mount{Type: x.Type, Source: x.Source, Target: x.Target, Options: x.Options},
			MountedAt: ToTime(x.MountedAt), MountPoint: x.Point,
		}
	})}
}

// FromActivation reads activated mounts.
func FromActivation(a *types.ActivationInfo) mount.Activation {
	return mount.Activation{Name: a.GetName(), Labels: a.GetLabels(), System: FromMounts(a.GetSystem()), Active: Each(a.GetActive(), func(x *types.ActiveMount) mount.Active {
		m := x.GetMount()
		return mount.Active{
			Mount:     mount.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()},
			MountedAt: FromTime(x.GetMountedAt()), Point: x.GetMountPoint(),
		}
	})}
}
