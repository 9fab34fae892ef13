package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/volume"
	"github.com/orlop/orlop/internal/mounts"
	volumes "github.com/orlop/orlop/services/volume"
	"github.com/orlop/orlop/snapshotters/layer"
)

// settle makes the volumes that a new container mounts, holds them for it, and gives
// those that are empty what the image has in their place. After an error, unsettle
// takes it back.
func (e *Engine) settle(ctx context.Context, c *Container) error {
	for i := range c.rec.Mounts {
		m := &c.rec.Mounts[i]
		if m.Type == mount.TypeImage {
			if err := e.viewImage(ctx, c, m); err != nil {
				return err
			}
		}
		if m.Type != mount.TypeVolume {
			continue
		}
		v, created, err := e.Volumes.Create(ctx, volumes.Request{Name: m.Name, Driver: m.Driver, Options: m.options, Labels: m.labels}, c.ID)
		if err != nil {
			return err
		}
		m.Name, m.Driver, m.Source = v.Name, v.Driver, e.Volumes.Path(v)
		if m.Mode == "" && !m.Anonymous {
			m.Mode = "z" // what Docker shows
		}
		if created {
			c.owned = append(c.owned, v.Name)
		}
		if m.NoCopy || m.Subpath != "" {
			continue
		}
		if err := e.copyUp(ctx, c, m); err != nil {
			return err
		}
	}
	return nil
}

// unsettle lets go of volumes, and removes those that were made in vain.
func (e *Engine) unsettle(ctx context.Context, c *Container) {
	e.dropVolumes(ctx, c, false)
	if err := e.dropViews(ctx, e.view(c)); err != nil {
		log.G(ctx).WithError(err).Warnf("images mounted in container %s", c.ID)
	}
	for _, name := range c.owned {
		if err := e.Volumes.Remove(ctx, name); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			log.G(ctx).WithError(err).Warnf("volume %s", name)
		}
	}
}

// copyUp fills an empty volume with what the image has at the target.
func (e *Engine) copyUp(ctx context.Context, c *Container, m *MountPoint) error {
	err := e.Volumes.Fill(ctx, m.Name, c.ID, func(dir string) error {
		s, err := e.Snapshots(c.stored.Snapshotter)
		if err != nil {
			return err
		}
		rootfs, err := s.Mounts(ctx, c.stored.SnapshotKey)
		if err != nil {
			return err
		}
		return mounts.WithTempReadOnly(ctx, rootfs, func(root string) error { return copyFrom(ctx, root, m.Target, dir) })
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// errNothing says that the image has no folder there.
var errNothing = errors.New("nothing to copy")

// copyFrom copies a folder of a tree, with owners, modes and attributes. Links on the
// way stay in the tree; those in the folder are copied as links.
func copyFrom(ctx context.Context, root, path, to string) error {
	at, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer at.Close()
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(at.Fd()), path, &how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return errNothing
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	from := os.NewFile(uintptr(fd), path)
	defer from.Close()
	r, w := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := layer.Diff(ctx, "", fmt.Sprintf("/proc/self/fd/%d", from.Fd()), w, layer.DiffOptions{Root: "."})
		w.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		_, err := layer.Apply(ctx, to, r, layer.Options{})
		r.CloseWithError(err)
		return err
	})
	return g.Wait()
}

// dropVolumes lets go of a container's volumes; remove removes the anonymous ones
// that no other container holds.
func (e *Engine) dropVolumes(ctx context.Context, c *Container, remove bool) {
	for _, m := range e.view(c).Mounts {
		if m.Type != mount.TypeVolume || m.Name == "" {
			continue
		}
		e.Volumes.Drop(m.Name, c.ID)
		if !remove || !m.Anonymous {
			continue
		}
		if err := e.Volumes.Remove(ctx, m.Name); err != nil && !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
			log.G(ctx).WithError(err).Warnf("volume %s of container %s", m.Name, c.ID)
		}
	}
}

// holdVolumes tells of a container of an earlier run.
func (e *Engine) holdVolumes(c *Container) {
	v := e.view(c)
	for _, m := range v.Mounts {
		if m.Type == mount.TypeVolume {
			e.Volumes.Hold(m.Name, c.ID, v.State.Running)
		}
	}
}

// settleVolumes unmounts what an earlier run has left and nobody uses.
func (e *Engine) settleVolumes(ctx context.Context, found []*Container) error {
	for _, c := range found {
		if c.state().Running {
			e.holdVolumes(c)
		}
	}
	return e.Volumes.Settle(ctx)
}

// useVolumes makes a container's volumes be there while it runs.
func (e *Engine) useVolumes(ctx context.Context, c *Container) error {
	for _, m := range e.view(c).Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := e.Volumes.Use(ctx, m.Name, c.ID); err != nil {
			return err
		}
		e.tellVolume("mount", m.Name, map[string]string{"driver": m.Driver, "container": c.ID, "destination": m.Target,
			"read/write": strconv.FormatBool(!m.ReadOnly), "propagation": string(m.Propagation)})
	}
	return nil
}

// doneVolumes ends that.
func (e *Engine) doneVolumes(ctx context.Context, c *Container) {
	for _, m := range e.view(c).Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if err := e.Volumes.Done(ctx, m.Name, c.ID); err != nil && !errdefs.IsNotFound(err) {
			log.G(ctx).WithError(err).Warnf("volume %s of container %s", m.Name, c.ID)
		}
		e.tellVolume("unmount", m.Name, map[string]string{"driver": m.Driver, "container": c.ID})
	}
}

func (e *Engine) tellVolume(action, name string, attrs map[string]string) {
	e.events.add(Event{Type: "volume", Action: action, ID: name, Attributes: attrs, Time: now()})
}

// VolumeView is a volume as it is shown.
type VolumeView struct {
	volume.Volume
	Path string
	// Holders are the containers that name it; Size is what it takes in bytes, -1 if
	// that was not asked for.
	Holders []string
	Size    int64
}

func (e *Engine) viewVolume(v volume.Volume) VolumeView {
	return VolumeView{Volume: v, Path: e.Volumes.Path(v), Holders: e.Volumes.Holders(v.Name), Size: -1}
}

// CreateVolume makes a volume, or finds it.
func (e *Engine) CreateVolume(ctx context.Context, r volumes.Request) (VolumeView, error) {
	v, _, err := e.Volumes.Create(ctx, r, "")
	return e.viewVolume(v), err
}

// InspectVolume returns a volume.
func (e *Engine) InspectVolume(ctx context.Context, name string) (VolumeView, error) {
	v, err := e.Volumes.Get(ctx, name)
	return e.viewVolume(v), err
}

// ListVolumes returns volumes that fit, sorted by name.
func (e *Engine) ListVolumes(ctx context.Context, f Filters) ([]VolumeView, error) {
	if err := f.Known("dangling", "driver", "label", "label!", "name"); err != nil {
		return nil, err
	}
	onlyDangling, given, err := f.Bool("dangling")
	if err != nil {
		return nil, err
	}
	all, err := e.Volumes.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []VolumeView{}
	for _, v := range all {
		view := e.viewVolume(v)
		if given && onlyDangling != (len(view.Holders) == 0) || !f.labels(v.Labels) || !f.is("driver", v.Driver) || !f.matches("name", v.Name) {
			continue
		}
		out = append(out, view)
	}
	return out, nil
}

// MeasureVolumes adds what volumes take.
func (e *Engine) MeasureVolumes(ctx context.Context, list []VolumeView) error {
	for i := range list {
		size, err := e.Volumes.Usage(ctx, list[i].Volume)
		if err != nil {
			return err
		}
		list[i].Size = size
	}
	return nil
}

// RemoveVolume removes a volume that no container names; with force, one that isn't
// there is no error.
func (e *Engine) RemoveVolume(ctx context.Context, name string, force bool) error {
	err := e.Volumes.Remove(ctx, name)
	if force && errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// PruneVolumes removes volumes that no container names: the anonymous ones, or all.
func (e *Engine) PruneVolumes(ctx context.Context, f Filters) (names []string, freed int64, err error) {
	if err := f.Known("all", "label", "label!"); err != nil {
		return nil, 0, err
	}
	all, _, err := f.Bool("all")
	if err != nil {
		return nil, 0, err
	}
	names, freed, err = e.Volumes.Prune(ctx, func(v volume.Volume) bool { return (all || v.Anonymous) && f.labels(v.Labels) })
	if err == nil {
		e.tellVolume("prune", "", map[string]string{"reclaimed": strconv.FormatInt(freed, 10)})
	}
	return names, freed, err
}

// volumeNews tells what happened to a volume.
func (e *Engine) volumeNews(action string, v volume.Volume) {
	attrs := maps.Clone(v.Labels)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["driver"] = v.Driver
	e.tellVolume(action, v.Name, attrs)
}

// fitMounts tells whether one of a container's mounts is of a volume, or at a place,
// that is wanted.
func (f Filters) fitMounts(list []MountPoint) bool {
	if !f.has("volume") {
		return true
	}
	return slices.ContainsFunc(list, func(m MountPoint) bool { return m.Name != "" && f.is("volume", m.Name) || f.is("volume", m.Target) })
}
