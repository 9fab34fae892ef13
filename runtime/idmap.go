package runtime

import (
	"fmt"
	"os"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// maxMappings is the kernel's limit on lines of an id map.
const maxMappings = 340

// formatMap writes the lines of a uid_map or gid_map.
func formatMap(list []specs.LinuxIDMapping) string {
	var s strings.Builder
	for _, m := range list {
		fmt.Fprintf(&s, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return s.String()
}

// hostID translates an id of the container, -1 if it has none on the host.
func hostID(list []specs.LinuxIDMapping, id int) int {
	for _, m := range list {
		if id >= int(m.ContainerID) && id-int(m.ContainerID) < int(m.Size) {
			return int(m.HostID) + id - int(m.ContainerID)
		}
	}
	return -1
}

// writeMaps sets the id maps of a process in a new user namespace.
func writeMaps(pid int, uids, gids []specs.LinuxIDMapping) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	if os.Geteuid() != 0 {
		if err := os.WriteFile(dir+"setgroups", []byte("deny"), 0); err != nil {
			return fmt.Errorf("user namespace: %w", err)
		}
	}
	if err := os.WriteFile(dir+"uid_map", []byte(formatMap(uids)), 0); err != nil {
		return fmt.Errorf("user ids: %w", err)
	}
	if err := os.WriteFile(dir+"gid_map", []byte(formatMap(gids)), 0); err != nil {
		return fmt.Errorf("group ids: %w", err)
	}
	return nil
}

// mapped keeps user namespaces that exist only to say how ids are mapped.
var mapped struct {
	mu   sync.Mutex
	open map[string]*os.File
}

// maxUserns bounds that cache.
const maxUserns = 16

// mappedUserns opens a user namespace with these maps, for idmapped mounts.
func mappedUserns(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	key := formatMap(uids) + "/" + formatMap(gids)
	mapped.mu.Lock()
	defer mapped.mu.Unlock()
	if f := mapped.open[key]; f != nil {
		return f, nil
	}
	f, err := makeUserns(uids, gids)
	if err != nil {
		return nil, err
	}
	if mapped.open == nil || len(mapped.open) >= maxUserns {
		// Dropped files are closed by the collector, when nobody uses them.
		mapped.open = map[string]*os.File{}
	}
	mapped.open[key] = f
	return f, nil
}

// makeUserns clones a process that only waits, maps its ids, keeps its namespace
// and lets it end.
func makeUserns(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	t, err := table.New(0, -1)
	if err != nil {
		return nil, err
	}
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	first := t.Add("close the parent's end", unix.SYS_CLOSE, gate[1])
	t.Add("wait", unix.SYS_READ, gate[0], t.Alloc(8), 1)
	t.Add("end", unix.SYS_EXIT_GROUP, 0)
	err = t.Run(table.Clone{Flags: unix.CLONE_NEWUSER, Cgroup: -1, PIDNamespace: -1}, first)
	defer t.Free()
	unix.Close(gate[0])
	if err != nil {
		unix.Close(gate[1])
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	pid := t.PID()
	defer reap(pid)
	defer unix.Close(gate[1])
	if err := writeMaps(pid, uids, gids); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
}

// idmapOf finds the user namespace by which a mount's owners are shifted.
func (b *build) idmapOf(pm *preparedMount) error {
	uids, gids := pm.UIDMappings, pm.GIDMappings
	switch {
	case len(uids) > 0 || len(gids) > 0:
	case b.joins(specs.UserNamespace):
		fd, err := b.openNamespace(specs.UserNamespace)
		pm.userns = fd
		return err
	case b.creates(specs.UserNamespace):
		uids, gids = b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings
	default:
		return invalid("idmap without mappings and without a user namespace")
	}
	ns, err := mappedUserns(uids, gids)
	if err != nil {
		return err
	}
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	pm.userns = b.own(fd)
	return nil
}

// reap collects a child that has ended or is about to.
func reap(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err != unix.EINTR {
			return ws, err
		}
	}
}
