package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/internal/safefile"
)

// CheckpointOptions say what checkpoint of a container to make.
type CheckpointOptions struct {
	// Name is a folder's: letters, digits, "_", "." and "-".
	Name string
	// Dir is the folder for it; empty is one of the container's own, which goes with it.
	Dir string
	// Exit ends the container; else it goes on.
	Exit bool
}

var checkpointName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// checkpoints is the folder of a container's checkpoints.
func (e *Engine) checkpoints(c *Container, dir string) (string, error) {
	if dir == "" {
		return filepath.Join(e.folder(c.ID), "checkpoints"), nil
	}
	if !filepath.IsAbs(dir) {
		return "", invalid("checkpoint folder %q is no absolute path", dir)
	}
	return filepath.Clean(dir), nil
}

// checkName keeps names from leading elsewhere.
func checkName(name string) error {
	if !checkpointName.MatchString(name) {
		return invalid("invalid checkpoint ID (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

func (e *Engine) checkpoint(c *Container, name, dir string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	dir, err := e.checkpoints(c, dir)
	return filepath.Join(dir, name), err
}

// Checkpoint writes the processes of a container that runs into a folder, from which
// [Engine.StartFrom] lets them go on. Connections to others are not kept.
func (e *Engine) Checkpoint(ctx context.Context, ref string, o CheckpointOptions) error {
	ctx = e.detached(ctx) // what is begun is not interrupted
	c, err := e.mustRun(ref)
	if err != nil {
		return err
	}
	if config, _ := c.config(); config.Tty {
		return conflict("container %s has a terminal, whose other end no checkpoint can keep: run it without -t", ref)
	}
	dir, err := e.checkpoint(c, o.Name, o.Dir)
	if err != nil {
		return err
	}
	if err := free(c, dir); err != nil {
		return err
	}
	if !o.Exit {
		return e.dump(ctx, c, dir, false)
	}
	_, ended, err := e.halt(ctx, c)
	if err != nil {
		return err
	}
	if err := e.dump(ctx, c, dir, true); err != nil {
		return errors.Join(err, e.unhalt(ctx, c))
	}
	await(ended, killWait) // so that what comes next finds it ended
	return nil
}

// free makes sure that there is no checkpoint of a name.
func free(c *Container, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return worded.New(errdefs.ErrConflict, "checkpoint with name %s already exists for container %s", filepath.Base(dir), c.ID)
	}
	return nil
}

// unhalt undoes halt for a container that goes on.
func (e *Engine) unhalt(ctx context.Context, c *Container) error {
	c.op.Lock()
	defer c.op.Unlock()
	c.mu.Lock()
	c.rec.Restart.Stopped = false
	c.mu.Unlock()
	return e.save(ctx, c)
}

// dump makes a checkpoint, which has its name when it is whole and on the disk: what a
// crash or an error leaves is removed by the next of that name. The container's end is not
// dealt with before that: its shim may go then.
func (e *Engine) dump(ctx context.Context, c *Container, dir string, exit bool) error {
	c.op.Lock()
	defer c.op.Unlock()
	if err := free(c, dir); err != nil { // another may have been made since
		return err
	}
	part := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".new")
	err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o700))
	if err != nil {
		return err
	}
	o, err := typeurl.MarshalAnyToProto(&runc.CheckpointOptions{Exit: exit, FileLocks: true, WorkPath: e.folder(c.ID)})
	if err == nil {
		err = e.call(ctx, c.ID, "Checkpoint", &wire.CheckpointTaskRequest{ID: c.ID, Path: part, Options: o})
	}
	if err == nil {
		err = syncFiles(part)
	}
	if err == nil {
		err = safefile.Rename(part, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(part))
	}
	e.tell(c, "checkpoint")
	return nil
}

// syncFiles makes the files of a folder durable; those of a checkpoint have no folders.
func syncFiles(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range list {
		f, err := os.Open(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return safefile.SyncDir(dir)
}

// Checkpoints lists the names of a container's checkpoints.
func (e *Engine) Checkpoints(ref, dir string) ([]string, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	if dir, err = e.checkpoints(c, dir); err != nil {
		return nil, err
	}
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names := []string{}
	for _, entry := range list {
		if entry.IsDir() && checkpointName.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// RemoveCheckpoint removes one.
func (e *Engine) RemoveCheckpoint(ref, name, dir string) error {
	_, dir, err := e.existing(ref, name, dir)
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// existing is a container, and the folder of a checkpoint of it that is there.
func (e *Engine) existing(ref, name, dir string) (*Container, string, error) {
	c, err := e.lookup(ref)
	if err != nil {
		return nil, "", err
	}
	if dir, err = e.checkpoint(c, name, dir); err != nil {
		return nil, "", err
	}
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return nil, "", notFound("checkpoint %s does not exist for container %s", name, c.ID)
	}
	return c, dir, nil
}

// StartFrom lets the processes of a checkpoint go on as those of the container.
func (e *Engine) StartFrom(ctx context.Context, ref, name, dir string) error {
	if err := checkName(name); err != nil { // whatever there is
		return err
	}
	c, dir, err := e.existing(ref, name, dir)
	if err != nil {
		return err
	}
	return e.begin(ctx, c, dir)
}
