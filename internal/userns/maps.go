package userns

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Overflow is who files belong to that have no owner in a namespace, as the kernel
// shows it (/proc/sys/kernel/overflowuid).
const Overflow = 65534

// Options are the options of a mount whose owners are shifted by the maps, in the words
// of containerd: what is on the disk as a container sees it is shown to it so. The
// runtime knows them.
func (m *Maps) Options() []string {
	return []string{"uidmap=" + text(m.UIDs), "gidmap=" + text(m.GIDs)}
}

func text(list []specs.LinuxIDMapping) string {
	var parts []string
	for _, m := range list {
		parts = append(parts, fmt.Sprintf("%d:%d:%d", m.ContainerID, m.HostID, m.Size))
	}
	return strings.Join(parts, ",")
}

// Host are the host's ids for ids of the namespace.
func (m *Maps) Host(uid, gid uint32) (hostUID, hostGID uint32, err error) {
	u, ok := host(m.UIDs, uid)
	g, okay := host(m.GIDs, gid)
	if !ok || !okay {
		return 0, 0, fmt.Errorf("owner %d:%d has no id on the host: the user namespace is smaller: %w", uid, gid, errdefs.ErrInvalidArgument)
	}
	return u, g, nil
}

// Inside are the ids in the namespace for those of the host; [Overflow] for others.
func (m *Maps) Inside(uid, gid uint32) (insideUID, insideGID uint32) {
	return inside(m.UIDs, uid), inside(m.GIDs, gid)
}

func host(list []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range list {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, true
		}
	}
	return 0, false
}

func inside(list []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range list {
		if id >= m.HostID && id-m.HostID < m.Size {
			return m.ContainerID + id - m.HostID
		}
	}
	return Overflow
}
