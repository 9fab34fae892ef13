package engine

import (
	"context"
	"errors"
	"os"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/worded"
)

// Remove removes a container; with force, one that runs is killed.
func (e *Engine) Remove(ctx context.Context, ref string, force bool) error {
	return e.RemoveWith(ctx, ref, RemoveOptions{Force: force})
}

// RemoveOptions say how a container is removed.
type RemoveOptions struct {
	// Force kills one that runs.
	Force bool
	// Volumes removes its anonymous volumes, too.
	Volumes bool
}

// RemoveWith removes a container.
func (e *Engine) RemoveWith(ctx context.Context, ref string, o RemoveOptions) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	force := o.Force
	ctx = e.detached(ctx)
	var ended <-chan struct{}
	if force {
		if _, ended, err = e.halt(ctx, c); err != nil {
			return err
		}
	}
	if ended != nil {
		if err := e.signal(ctx, c, unix.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if !await(ended, killWait) {
			return worded.New(errdefs.ErrUnavailable, "container %s did not end though it was killed", short(c.ID))
		}
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch s := c.state(); {
	case s.Removing:
		if force {
			return nil // it removes itself
		}
		return notFound("No such container: %s", ref)
	case s.Running, s.Restarting:
		return conflict("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+c.name(), s.Status())
	}
	c.mu.Lock()
	c.purge = o.Volumes
	c.mu.Unlock()
	return e.remove(ctx, c)
}

// remove removes a container that doesn't run. The record goes first: what is left
// after a crash is what nothing names, which the collector and the next start take.
// Called with op held.
func (e *Engine) remove(ctx context.Context, c *Container) error {
	c.mu.Lock()
	c.rec.State.Removing = true
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	err := e.erase(ctx, c)
	if err != nil {
		c.mu.Lock()
		c.rec.State.Removing = false
		c.mu.Unlock()
		return err
	}
	for _, a := range pending {
		a.end(notFound("No such container: %s", c.ID))
	}
	e.unindex(c)
	e.dropVolumes(ctx, c, c.purge || c.rec.HostConfig.AutoRemove)
	e.tell(c, "destroy")
	c.fire(waitRemoved)
	return nil
}

func (e *Engine) erase(ctx context.Context, c *Container) error {
	s, err := e.Snapshots(c.stored.Snapshotter)
	if err == nil && c.removesItself() {
		if err := e.eraseBoth(ctx, c, s); err != nil {
			return err
		}
		return e.eraseFiles(ctx, c)
	}
	if err := e.Containers.Delete(ctx, c.ID); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if err == nil {
		err = s.Remove(ctx, c.stored.SnapshotKey)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return e.eraseFiles(ctx, c)
}

func (e *Engine) eraseFiles(ctx context.Context, c *Container) error {
	if err := e.dropViews(ctx, e.view(c)); err != nil {
		return err
	}
	e.dropShm(c)
	return errors.Join(os.RemoveAll(e.folder(c.ID)), os.RemoveAll(e.runFolder(c.ID)))
}

// Rename gives a container another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	if !validName.MatchString(name) {
		return invalid("Invalid container name (%s), only %s are allowed", name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	c.op.Lock()
	defer c.op.Unlock()
	old := c.name()
	if old == name {
		return invalid("Renaming a container with the same name as its current name")
	}
	if err := e.reindex(c, old, name); err != nil {
		return err
	}
	if err := e.save(e.detached(ctx), c); err != nil {
		return errors.Join(err, e.reindex(c, name, old))
	}
	e.renameLinks(e.detached(ctx), c, old, name)
	if e.Networks != nil {
		if err := e.Networks.Rename(c.ID, old, name); err != nil {
			log.G(ctx).WithError(err).Warnf("network of container %s", c.ID)
		}
	}
	e.tell(c, "rename", "oldName", "/"+old)
	return nil
}

func (e *Engine) reindex(c *Container, from, to string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if other := e.byName[to]; other != nil {
		return conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
			"/"+to, other.ID)
	}
	delete(e.byName, from)
	e.byName[to] = c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec.Name = to
	return nil
}

// Prune removes containers that don't run, and returns their IDs and what they
// took, in bytes.
func (e *Engine) Prune(ctx context.Context, f Filters) (ids []string, freed int64, err error) {
	if err := f.Known("label", "label!", "until"); err != nil {
		return nil, 0, err
	}
	until, err := f.until()
	if err != nil {
		return nil, 0, err
	}
	ids = []string{}
	for _, v := range e.all() {
		if v.State.Running || v.State.Restarting || !f.labels(v.Config.Labels) || !until.IsZero() && !v.Created.Before(until) {
			continue
		}
		size := e.size(e.in(ctx), v)
		if err := e.Remove(ctx, v.ID, false); err != nil {
			if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
				continue
			}
			return ids, freed, err
		}
		ids, freed = append(ids, v.ID), freed+size
	}
	return ids, freed, nil
}

// size is what a container's own tree takes, in bytes; 0 where it can't be told.
func (e *Engine) size(ctx context.Context, v View) int64 {
	s, err := e.Snapshots(v.Snapshotter)
	if err != nil {
		return 0
	}
	u, err := s.Usage(ctx, v.Snapshot)
	if err != nil {
		return 0
	}
	return u.Size
}

// Sizes are what a container takes beyond its image, and with it, in bytes.
func (e *Engine) Sizes(ctx context.Context, v View) (own, all int64) {
	ctx = e.in(ctx)
	own = e.size(ctx, v)
	all = own
	s, err := e.Snapshots(v.Snapshotter)
	if err != nil {
		return own, all
	}
	key := v.Snapshot
	for {
		info, err := s.Stat(ctx, key)
		if err != nil || info.Parent == "" {
			return own, all
		}
		u, err := s.Usage(ctx, info.Parent)
		if err != nil {
			return own, all
		}
		all, key = all+u.Size, info.Parent
	}
}
