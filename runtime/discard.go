package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime/cgroup"
)

// discardWait bounds the wait for killed processes to leave their control group.
const discardWait = 5 * time.Second

// Discard removes what a Create or Restore left whose process died before it had recorded the
// container: the control group at cgroupsPath (empty is the id) with what is in it,
// if that Create made it, and the state folder. A container that was recorded, or
// that isn't there, is left as it is; none of either of the id may be under way.
func (r *Runtime) Discard(ctx context.Context, id, cgroupsPath string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if _, err := os.Stat(r.dir(id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := readRecord(r.dir(id)); !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := Displace(r.places(id)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.dir(id), freshFile)); err != nil {
		// The group is somebody else's, too; the process, left alone, has ended.
		return os.RemoveAll(r.dir(id))
	}
	g, err := r.groupOf(ctx, id, cgroupsPath)
	if err != nil {
		return fmt.Errorf("control group of container %q: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, discardWait)
	defer cancel()
	for {
		pids, err := g.Processes()
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, cgroup.ErrController) {
			return fmt.Errorf("processes of container %q: %w", id, err)
		}
		if len(pids) == 0 {
			break
		}
		if err := g.KillAll(); err != nil {
			return fmt.Errorf("processes of container %q: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes of container %q: %w", id, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.Join(g.Delete(), os.RemoveAll(r.dir(id)))
}

// groupOf is the group that a Create of the same arguments would make.
func (r *Runtime) groupOf(ctx context.Context, id, cgroupsPath string) (*cgroup.Group, error) {
	if r.options.SystemdCgroup {
		scope, err := r.host.Scope(ctx, cgroupsPath, id)
		if err != nil {
			return nil, err
		}
		return scope.Group, nil
	}
	if cgroupsPath == "" {
		cgroupsPath = id
	}
	return r.host.Create(cgroupsPath)
}
