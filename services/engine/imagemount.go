package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/core/label"
	coremount "github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/services/unpack"
)

// viewImage makes a view of an image's tree for a container's mount. The container's
// record holds it (imageLabels); before there is one, the lease of the creation does.
func (e *Engine) viewImage(ctx context.Context, c *Container, m *MountPoint) error {
	img, err := e.FindImage(ctx, m.Source)
	if err != nil {
		return err
	}
	d, err := e.Details(ctx, img, anyPlatform)
	if err != nil {
		return err
	}
	name := c.stored.Snapshotter
	if err := e.Unpack.Image(ctx, []unpack.Target{{Platform: d.Config.Platform, Snapshotter: name}}, d.Manifest, nil); err != nil {
		return err
	}
	s, err := e.Snapshots(name)
	if err != nil {
		return err
	}
	if len(d.Chains) == 0 {
		return invalid("image %s has no file system to mount", m.Source)
	}
	key := "image-" + newID()
	if _, err := s.View(ctx, key, d.Chains[len(d.Chains)-1], nil); err != nil {
		return err
	}
	m.Name, m.Snapshot = d.ID.String(), key
	return nil
}

// imageLabels keep the collector from the views that a container mounts.
func imageLabels(labels map[string]string, snapshotter string, list []MountPoint) map[string]string {
	for _, m := range list {
		if m.Snapshot != "" {
			labels[label.GCSnapshot+snapshotter+"/"+m.Snapshot] = m.Snapshot
		}
	}
	return labels
}

// dropViews removes the views of a container's image mounts.
func (e *Engine) dropViews(ctx context.Context, v View) error {
	var errs []error
	for _, m := range v.Mounts {
		if m.Snapshot == "" {
			continue
		}
		s, err := e.Snapshots(v.Snapshotter)
		if err == nil {
			err = s.Remove(ctx, m.Snapshot)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// imageMount is the one mount that shows an image's tree, read-only.
func (e *Engine) imageMount(ctx context.Context, v View, m *MountPoint) (coremount.Mount, error) {
	s, err := e.Snapshots(v.Snapshotter)
	if err != nil {
		return coremount.Mount{}, err
	}
	list, err := s.Mounts(ctx, m.Snapshot)
	if err != nil {
		return coremount.Mount{}, fmt.Errorf("image %s at %s: %w", m.Source, m.Target, err)
	}
	if len(list) != 1 {
		return coremount.Mount{}, missing("mounting image %s: its snapshotter shows it by %d mounts: not available yet", m.Source, len(list))
	}
	return mounts.ReadOnly(list)[0], nil
}

// specMounts are a container's mounts for the runtime.
func (e *Engine) specMounts(ctx context.Context, v View) ([]specs.Mount, error) {
	out := specMounts(v.Mounts)
	for i := range v.Mounts {
		m := &v.Mounts[i]
		if m.Type != mount.TypeImage {
			continue
		}
		shown, err := e.imageMount(ctx, v, m)
		if err != nil {
			return nil, err
		}
		out[i] = specs.Mount{Destination: m.Target, Type: shown.Type, Source: shown.Source, Options: shown.Options}
		if m.Subpath != "" {
			out[i].Options = append(out[i].Options, subpathOption+m.Subpath)
		}
	}
	return out, nil
}
