package engine

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"

	"github.com/orlop/orlop/core/together"
	"github.com/orlop/orlop/snapshotters"
)

// errRefused says that a container can't be made the short way.
var errRefused = errors.New("the image's tree has to be made first")

// storeShort makes the record and the tree of a container side by side, so that they
// share a commit, without a lease: the record holds the tree. It returns errRefused,
// with nothing made, where the image is not unpacked or volumes have to be filled.
//
// A crash in between leaves a tree that nothing refers to, for the collector, or a
// record without a tree, which [Engine.find] removes.
func (e *Engine) storeShort(ctx context.Context, c *Container, d *Details, s snapshotters.Snapshotter) error {
	if len(d.Chains) == 0 {
		return errRefused
	}
	for _, m := range c.rec.Mounts {
		if m.Type == mount.TypeVolume || m.Type == mount.TypeImage {
			return errRefused
		}
	}
	parent := d.Chains[len(d.Chains)-1]
	if _, err := s.Stat(ctx, parent); err != nil {
		return errRefused
	}
	prepare := func(ctx context.Context) error {
		_, err := s.Prepare(ctx, c.ID, parent, c.snapshotLabels())
		return err
	}
	both := together.Do(ctx, prepare, func(ctx context.Context) error { return e.enroll(ctx, c, d) })
	treeErr, recordErr := both[0], both[1]
	if treeErr == nil && recordErr == nil {
		// A collection in between may have taken the tree for garbage; it can't again.
		if _, err := s.Stat(ctx, c.ID); errdefs.IsNotFound(err) {
			treeErr = prepare(ctx)
		}
	}
	if treeErr == nil && recordErr == nil {
		return nil
	}
	clean := context.WithoutCancel(ctx)
	var errs []error
	if recordErr == nil {
		errs = append(errs, e.Containers.Delete(clean, c.ID))
	}
	if treeErr == nil {
		errs = append(errs, s.Remove(clean, c.ID))
	}
	if errdefs.IsNotFound(treeErr) && recordErr == nil && errors.Join(errs...) == nil {
		return errRefused // the image's tree was removed meanwhile
	}
	return errors.Join(append(errs, treeErr, recordErr)...)
}

// eraseBoth removes the record and the tree of a container that removes itself, side
// by side. What a crash leaves of it is removed at the next start: the record still
// says that it runs.
func (e *Engine) eraseBoth(ctx context.Context, c *Container, s snapshotters.Snapshotter) error {
	return errors.Join(together.Do(ctx,
		func(ctx context.Context) error { return present(e.Containers.Delete(ctx, c.ID)) },
		func(ctx context.Context) error { return present(s.Remove(ctx, c.stored.SnapshotKey)) })...)
}

// present passes over that something is gone already.
func present(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// cutOff tells whether a container that doesn't run is what a crash left of its
// creation or of its own removal.
func (e *Engine) cutOff(ctx context.Context, c *Container) bool {
	st := c.state()
	if c.removesItself() && !st.FinishedAt.IsZero() {
		return true
	}
	if !st.StartedAt.IsZero() || !st.FinishedAt.IsZero() {
		return false
	}
	s, err := e.Snapshots(c.stored.Snapshotter)
	if err != nil {
		return false
	}
	_, err = s.Stat(ctx, c.stored.SnapshotKey)
	return errdefs.IsNotFound(err)
}
