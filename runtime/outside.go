package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime/criu"
)

// outside is what a checkpoint needs of the world around it, kept in the file
// outside.json beside CRIU's: a container that is restored has other files there.
type outside struct {
	// Stdio names the first process's three first descriptors as CRIU does; one that
	// is part of the checkpoint is empty.
	Stdio [3]string `json:"stdio"`
	// Mounts are those whose file systems are not the container's own.
	Mounts []outerMount `json:"mounts,omitempty"`
	// Groups are the paths of the control group, by hierarchy.
	Groups map[string]string `json:"groups"`
	// Connections are what the checkpoint was written with, and is restored with.
	Connections Connections `json:"connections"`
	// Network tells that there was a network namespace other than the host's.
	Network bool `json:"network,omitempty"`

	netns uint64 // its inode, while it is written
}

// outerMount is a mount from outside.
type outerMount struct {
	At string `json:"at"`
	// Cgroup tells that the container's control group is shown there.
	Cgroup bool `json:"cgroup,omitempty"`
	// Device is a path below /dev, where it is one of the host's devices.
	Device string `json:"device,omitempty"`
}

const (
	outsideFile = "outside.json"
	// networkKey is how CRIU's files name the network namespace.
	networkKey = "network"
	// notSaid are bytes of paths that have a meaning in what CRIU is told of mounts.
	notSaid = "[]:,"
)

// lookOutside finds out what of a process is not the container's own.
func lookOutside(pid int, spec *specs.Spec) (*outside, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	own, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, err
	}
	host, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	o := &outside{}
	if err := o.mounts(own, host, spec); err != nil {
		return nil, err
	}
	if err := o.network(pid); err != nil {
		return nil, err
	}
	return o, o.stdio(pid, own)
}

// fsID names a file system.
type fsID struct{ major, minor int }

// mounts finds those that come from outside: what the configuration binds, what the host
// has mounted, too, and control groups.
func (o *outside) mounts(own, host []*mountinfo.Info, spec *specs.Spec) error {
	shared := map[fsID]bool{}
	for _, m := range host {
		shared[fsID{m.Major, m.Minor}] = true
	}
	bound := map[string]bool{}
	for _, m := range spec.Mounts {
		bound[path.Clean(m.Destination)] = isBind(m) || m.Type == "overlay"
	}
	for _, m := range own {
		cgroup := strings.HasPrefix(m.FSType, "cgroup")
		if m.Mountpoint == "/" || !cgroup && !bound[m.Mountpoint] && !shared[fsID{m.Major, m.Minor}] {
			continue
		}
		if strings.ContainsAny(m.Mountpoint, notSaid) {
			return unsupported("a mount at %q: CRIU can't be told of it", m.Mountpoint)
		}
		if strings.Contains(m.Optional, "master:") {
			return unsupported("the mount at %s gets those of the host (rslave), which could not be restored", m.Mountpoint)
		}
		out := outerMount{At: m.Mountpoint, Cgroup: cgroup}
		if m.FSType == "devtmpfs" {
			out.Device = filepath.Join("/dev", m.Root)
		}
		o.Mounts = append(o.Mounts, out)
	}
	return nil
}

func (o *outside) network(pid int) error {
	var its, ours unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &its); err != nil {
		return err
	}
	if err := unix.Stat("/proc/self/ns/net", &ours); err != nil {
		return err
	}
	o.Network, o.netns = its.Ino != ours.Ino, its.Ino
	return nil
}

// stdio names the descriptors: pipes, and files that no mount of the container leads to.
func (o *outside) stdio(pid int, own []*mountinfo.Info) error {
	mounted := map[int]bool{}
	for _, m := range own {
		mounted[m.ID] = true
	}
	for fd := range o.Stdio {
		name := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
		link, err := os.Readlink(name)
		if os.IsNotExist(err) {
			continue // closed
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(link, "pipe:[") {
			o.Stdio[fd] = link
			continue
		}
		id, err := mountOf(pid, fd)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Stat(name, &st); err != nil {
			return err
		}
		if !mounted[id] && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			o.Stdio[fd] = fmt.Sprintf("file[%x:%x]", id, st.Ino)
		}
	}
	return nil
}

// mountOf is the id of the mount that a descriptor's file is on.
func mountOf(pid, fd int) (id int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			_, err = fmt.Sscan(rest, &id)
			return id, err
		}
	}
	return 0, fmt.Errorf("descriptor %d of process %d: its mount is not known", fd, pid)
}

// declare tells CRIU what not to write.
func (o *outside) declare(call *criu.Call) {
	for _, m := range o.Mounts {
		call.External(fmt.Sprintf("mnt[%s]:%s", m.At, m.At))
	}
	if o.Network {
		call.External(fmt.Sprintf("net[%d]:%s", o.netns, networkKey))
	}
	for _, name := range o.Stdio {
		if strings.HasPrefix(name, "file[") {
			call.External(name)
		}
	}
}

func (o *outside) save(dir string) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, outsideFile), b, 0o600)
}

func loadOutside(dir string) (*outside, error) {
	o := &outside{}
	if err := readJSON(filepath.Join(dir, outsideFile), o); err != nil {
		return nil, fmt.Errorf("%s is no whole checkpoint of this runtime: %w", dir, err)
	}
	return o, o.check()
}

// stdioName is what the names of streams look like.
var stdioName = regexp.MustCompile(`^(|pipe:\[[0-9]+\]|file\[[0-9a-f]+:[0-9a-f]+\])$`)

// check refuses names that could say more to CRIU than they should.
func (o *outside) check() error {
	for _, m := range o.Mounts {
		if !path.IsAbs(m.At) || path.Clean(m.At) != m.At || m.At == "/" || strings.ContainsAny(m.At, notSaid) {
			return invalid("the checkpoint has a mount at %q, which is no place", m.At)
		}
	}
	for _, name := range o.Stdio {
		if !stdioName.MatchString(name) {
			return invalid("the checkpoint has a stream %q, which is none", name)
		}
	}
	return nil
}
