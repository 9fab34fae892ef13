package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/volume"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/safefile"
)

// Mount implements the port.
func (d *Driver) Mount(_ context.Context, v volume.Volume) error {
	o, err := parse(v.Options)
	if err != nil || !o.isMount() {
		return err
	}
	mounted, err := mounts.IsMountPoint(d.Path(v.Name))
	if err != nil || mounted {
		return err
	}
	m, err := o.mount()
	if err != nil {
		return err
	}
	if err := mounts.All([]mount.Mount{m}, d.Path(v.Name)); err != nil {
		return &mountError{fmt.Errorf("failed to mount local volume: mount %s:%s: %w", o.device, d.Path(v.Name), err)}
	}
	return nil
}

// mountError is told as the caller's mistake: the options are.
type mountError struct{ error }

// Unwrap returns the reason.
func (e *mountError) Unwrap() error { return e.error }

// Unmount implements the port.
func (d *Driver) Unmount(_ context.Context, v volume.Volume) error {
	if o, err := parse(v.Options); err == nil && !o.isMount() {
		return nil
	}
	return mounts.UnmountAll(d.Path(v.Name), true)
}

// Fill implements the port.
func (d *Driver) Fill(_ context.Context, v volume.Volume, used bool, fn func(dir string) error) (err error) {
	data := d.Path(v.Name)
	empty, err := isEmpty(data)
	if err != nil || !empty {
		return err
	}
	o, err := parse(v.Options)
	if err != nil {
		return err
	}
	if o.isMount() {
		return fn(data) // nothing of another file system can be put beside it
	}
	fill := filepath.Join(d.folder(v.Name), fillDir)
	if err := os.Mkdir(fill, 0o755); err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(fill); rerr != nil && err == nil {
			err = rerr
		}
	}()
	if err := fn(fill); err != nil {
		return err
	}
	if err := syncTree(fill); err != nil {
		return err
	}
	if used {
		return moveInto(fill, data)
	}
	// Replaces an empty folder alone; os.Rename would refuse any.
	if err := unix.Rename(fill, data); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		return err
	}
	return safefile.SyncDir(d.folder(v.Name))
}

// syncTree writes out the file system of a folder: one call for all its files.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// moveInto moves what is in a folder into one that is mounted elsewhere; names that
// are taken stay as they are.
func moveInto(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(from, e.Name()), unix.AT_FDCWD, filepath.Join(to, e.Name()), unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return dress(from, to)
}

// dress gives a folder the owner and mode of another.
func dress(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	fd, err := unix.Open(to, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, st.Mode&0o7777)
}
