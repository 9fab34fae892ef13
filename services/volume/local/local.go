// Package local keeps volumes in folders of this host: <root>/<name>/_data is what
// containers see.
//
// # Crash
//
// A folder is synced before Make returns. Remove renames it to <root>/.trash, where
// Discard removes it; what is in there is no volume any more. Fill writes into
// <name>/_fill and renames that over the empty _data, so a volume is never half
// filled; a _fill that is left is removed at the start. Mounts at _data are found by
// asking the kernel, so those of an earlier run are known.
//
// # Trust
//
// Folders on the way to _data are their owner's alone: what is in volumes may be
// set-user-ID programs, which no other user of the host may reach (CVE-2021-41091).
// Files in volumes are containers': nothing follows a link of theirs.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/orlop/orlop/core/volume"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/projquota"
	"github.com/orlop/orlop/internal/safefile"
	volumes "github.com/orlop/orlop/services/volume"
	"golang.org/x/sys/unix"
)

const (
	dataDir  = "_data"
	fillDir  = "_fill"
	trashDir = ".trash"
)

// Driver is the driver.
type Driver struct {
	root string

	mu    sync.Mutex // guards what follows
	trash int        // numbers what is put into the trash
	quota projquota.Numbers
}

// Open takes up the volumes below root.
func Open(root string) (*Driver, error) {
	if err := os.MkdirAll(filepath.Join(root, trashDir), 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, err
	}
	d := &Driver{root: root, quota: projquota.Numbers{First: projquota.FirstVolume}}
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(d.folder(name), fillDir)); err != nil {
			return nil, err
		}
		d.quota.Taken(d.folder(name))
	}
	return d, nil
}

func (d *Driver) folder(name string) string { return filepath.Join(d.root, name) }

// Path implements [volumes.Driver].
func (d *Driver) Path(name string) string { return filepath.Join(d.root, name, dataDir) }

// names lists folders that are volumes by their name.
func (d *Driver) names() ([]string, error) {
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && volume.ValidateName(e.Name()) == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Found implements [volumes.Driver].
func (d *Driver) Found() (map[string]volumes.Content, error) {
	names, err := d.names()
	if err != nil {
		return nil, err
	}
	removed, err := os.ReadDir(filepath.Join(d.root, trashDir))
	if err != nil {
		return nil, err
	}
	out := map[string]volumes.Content{}
	for _, e := range removed {
		if _, name, ok := strings.Cut(e.Name(), "."); ok {
			out[name] = volumes.Content{Removed: true}
		}
	}
	for _, name := range names {
		mounted, err := mounts.IsMountPoint(d.Path(name))
		if err != nil {
			return nil, err
		}
		empty := false
		if !mounted {
			if empty, err = isEmpty(d.Path(name)); err != nil {
				return nil, err
			}
		}
		out[name] = volumes.Content{Empty: empty}
	}
	return out, nil
}

// isEmpty tells whether nothing is in a folder, or the folder isn't there.
func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) == 0, nil
}

// Make implements [volumes.Driver].
func (d *Driver) Make(ctx context.Context, v volume.Volume) (err error) {
	o, err := parse(v.Options)
	if err != nil {
		return err
	}
	dir := d.folder(v.Name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Remove(ctx, v), d.Discard(ctx))
		}
	}()
	if o.quota > 0 {
		if err := d.limit(dir, o.quota); err != nil {
			return err
		}
	}
	// What is in there is the container's, which may not be root.
	if err := os.Mkdir(d.Path(v.Name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := safefile.SyncDir(dir); err != nil {
		return err
	}
	return safefile.SyncDir(d.root)
}

// Remove implements [volumes.Driver].
func (d *Driver) Remove(_ context.Context, v volume.Volume) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		d.trash++
		to := filepath.Join(d.root, trashDir, strconv.Itoa(d.trash)+"."+v.Name)
		err := unix.Renameat2(unix.AT_FDCWD, d.folder(v.Name), unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue // left by an earlier run
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		return safefile.SyncDir(d.root)
	}
}

// Discard implements [volumes.Driver].
func (d *Driver) Discard(context.Context) error {
	dir := filepath.Join(d.root, trashDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		mounted, err := mounts.IsMountPoint(filepath.Join(path, dataDir))
		switch {
		case err != nil:
		case mounted:
			err = fmt.Errorf("%s: something is mounted in it, which is not ours to remove", path)
		default:
			err = os.RemoveAll(path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Usage implements [volumes.Driver].
func (d *Driver) Usage(ctx context.Context, name string) (int64, error) {
	root, err := os.OpenRoot(d.Path(name)) // links can't lead out of it
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer root.Close()
	return usage(ctx, root)
}
