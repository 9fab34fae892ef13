package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/services/spec"
)

// shmTarget is where POSIX shared memory is.
const shmTarget = "/dev/shm"

// joinIPC chooses the namespace of System V's shared memory and the folder of POSIX's,
// which go together. A container whose memory others may join has a folder of the
// host's, made when it starts.
func (e *Engine) joinIPC(c *Container, h *hostConfig, o *spec.Options) error {
	switch mode := h.IpcMode; {
	case mode.IsShareable():
		if err := e.makeShm(c, h.ShmSize); err != nil {
			return err
		}
		o.Mounts = append(o.Mounts, shmMount(e.shmFolder(c)))
	case mode.IsContainer():
		donor, err := e.donor(mode.Container())
		if err != nil {
			return err
		}
		if o.IPC, err = e.namespaceOf(donor.ID, "ipc"); err != nil {
			return err
		}
		o.Mounts = append(o.Mounts, shmMount(e.shmFolder(donor)))
	}
	return nil
}

func shmMount(source string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: shmTarget, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
}

// donor is a container whose shared memory may be joined.
func (e *Engine) donor(ref string) (*Container, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	if _, h := c.config(); !h.IpcMode.IsShareable() {
		return nil, conflict("can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", c.ID)
	}
	if s := c.state(); !s.Running {
		return nil, conflict("can't join IPC of container %s: container is not running", c.ID)
	}
	return c, nil
}

func (e *Engine) shmFolder(c *Container) string { return filepath.Join(e.runFolder(c.ID), "shm") }

func (e *Engine) makeShm(c *Container, size int64) error {
	e.dropShm(c)
	dir := e.shmFolder(c)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size)); err != nil {
		return fmt.Errorf("shared memory of container %s: %w", c.ID, err)
	}
	return nil
}

// dropShm gives the memory back. Containers that have joined keep theirs.
func (e *Engine) dropShm(c *Container) {
	err := unix.Unmount(e.shmFolder(c), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		log.L.WithError(err).Warnf("shared memory of container %s", c.ID)
	}
}

// withoutIPC leaves out of a spec what of shared memory and queues is not wanted, or
// what the host, whose the container shall have, lacks itself.
func withoutIPC(s *specs.Spec, h *hostConfig) {
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool {
		switch m.Destination {
		case shmTarget:
			return h.IpcMode.IsNone() && m.Type == "tmpfs" || h.IpcMode.IsHost() && !isThere(m.Source)
		case "/dev/mqueue":
			return h.IpcMode.IsHost() && !isThere(m.Source)
		}
		return false
	})
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
