package docker

import (
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/orlop/orlop/services/engine"
)

// mountPoints are a container's mounts, but for memory that HostConfig.Tmpfs tells.
func mountPoints(v engine.View) []api.MountPoint {
	out := []api.MountPoint{}
	for _, m := range v.Mounts {
		if _, told := v.HostConfig.Tmpfs[m.Target]; told {
			continue
		}
		out = append(out, api.MountPoint{Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Target, Driver: m.Driver,
			Mode: m.Mode, RW: !m.ReadOnly, Propagation: m.Propagation})
	}
	return out
}

// shallow gives read-only mounts the meaning they had for older clients.
func shallow(h *api.HostConfig, v version) {
	if h == nil || v >= deepReadOnly {
		return
	}
	for i := range h.Mounts {
		if m := &h.Mounts[i]; m.Type == mount.TypeBind && m.ReadOnly {
			if m.BindOptions == nil {
				m.BindOptions = &mount.BindOptions{}
			}
			m.BindOptions.ReadOnlyNonRecursive = true
		}
	}
}
