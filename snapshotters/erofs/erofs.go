// Package erofs keeps unpacked layers as EROFS images: the layer's tar, as it
// came, is the data, and a small image beside it holds the names. Writing one
// is one sequential file, removing it two unlinks, and the tar is there to be
// pushed or verified.
//
// # Layout
//
// <root>/snapshots/<id>/layer.tar and layer.erofs, mounted at fs beside them.
// Active snapshots and those that a client filled and committed are directories
// as in package overlayfs, and so are layers that EROFS can't show over their
// tar (sparse files). Both kinds mix freely below one overlay.
//
// # Lifecycle
//
// A layer is mounted on the host once, when it is first a parent in Create or
// Mounts, and stays so until Remove, across restarts of the daemon. A reboot
// takes the mounts away and the next Mounts brings them back. Remove detaches
// the mount lazily: containers that use it go on.
//
// # Concurrency and crashes
//
// All methods are safe for concurrent use; one mutex serializes mounting. Sync
// makes the two files durable. What a crash leaves is listed by List and taken
// by Remove, mounts included.
package erofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/disk"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Files of a layer.
const (
	tarName   = "layer.tar"
	imageName = "layer.erofs"
)

// Config tunes the driver.
type Config struct {
	// Options are added to every overlay's mount options.
	Options []string
	// MaxLayerBytes bounds the file data of one unpacked layer; 0 is no bound.
	MaxLayerBytes int64
}

// Driver is the snapshotter driver.
type Driver struct {
	*disk.Store
	cfg   Config
	stack disk.Stack

	mu sync.Mutex // held while a layer is mounted or unmounted
}

var (
	_ snapshotters.Unpacker = (*Driver)(nil)
	_ snapshotters.Differ   = (*Driver)(nil)
)

// Open takes the folder root into use if the kernel can mount files there as
// EROFS below an overlay; the error says why not.
func Open(root string, cfg Config) (*Driver, error) {
	stack, err := disk.NewStack(cfg.Options)
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	store, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	if err := probe(store.Root()); err != nil {
		return nil, errors.Join(fmt.Errorf("erofs: %w", err), store.Close())
	}
	return &Driver{Store: store, cfg: cfg, stack: stack}, nil
}

// Create implements [snapshotters.Driver].
func (d *Driver) Create(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if err := d.mountLayers(s.Parents); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	if err := d.stack.Create(d.Store, s); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	return d.stack.Mounts(d.Store, s), nil
}

// Mounts implements [snapshotters.Driver].
func (d *Driver) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if _, err := os.Stat(d.Path(s.ID)); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	if err := d.mountLayers(s.Parents); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	if err := d.stack.Again(d.Store, s); err != nil {
		return nil, fmt.Errorf("erofs: %w", err)
	}
	return d.stack.Mounts(d.Store, s), nil
}

// mountLayers mounts those that are images and not mounted yet.
func (d *Driver) mountLayers(ids []string) error {
	for _, id := range ids {
		if err := disk.CheckID(id); err != nil {
			return err
		}
		fs := d.Path(id, "fs")
		mounted, err := mounts.IsMountPoint(fs)
		if err != nil {
			return err
		}
		if !mounted {
			if err := d.mountLayer(id, fs); err != nil {
				return fmt.Errorf("layer %s: %w", id, err)
			}
		}
	}
	return nil
}

func (d *Driver) mountLayer(id, fs string) error {
	image := d.Path(id, imageName)
	if _, err := os.Lstat(image); errors.Is(err, os.ErrNotExist) {
		return nil // a directory
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if mounted, err := mounts.IsMountPoint(fs); mounted || err != nil {
		return err
	}
	return mounts.All([]mount.Mount{layerMount(image, d.Path(id, tarName))}, fs)
}

func layerMount(image, tar string) mount.Mount {
	return mount.Mount{Type: "erofs", Source: image, Options: []string{"ro", "device=" + tar}}
}

// Commit implements [snapshotters.Driver].
func (d *Driver) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	u, err := disk.Usage(ctx, d.Path(s.ID, "fs"))
	if err != nil {
		return u, fmt.Errorf("erofs: %w", err)
	}
	if err := os.RemoveAll(d.Path(s.ID, "work")); err != nil {
		return u, fmt.Errorf("erofs: %w", err)
	}
	return u, d.Store.Sync()
}

// Usage implements [snapshotters.Driver].
func (d *Driver) Usage(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	if s.Kind == snapshotters.KindView {
		return snapshotters.Usage{}, nil
	}
	return disk.Usage(ctx, d.Path(s.ID, "fs"))
}

// Remove implements [snapshotters.Driver].
func (d *Driver) Remove(_ context.Context, id string) error {
	if err := disk.CheckID(id); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := mounts.UnmountAll(d.Path(id, "fs"), true); err != nil {
		return fmt.Errorf("erofs: %w", err)
	}
	return d.Store.Remove(id)
}

// List implements [snapshotters.Driver].
func (d *Driver) List(context.Context) ([]string, error) { return d.Store.List() }

// Unpack implements [snapshotters.Unpacker].
func (d *Driver) Unpack(ctx context.Context, id string, tar io.Reader, _ map[string]string) (snapshotters.Usage, error) {
	var u snapshotters.Usage
	err := d.Make(id, func(dir string) error {
		if err := os.Mkdir(filepath.Join(dir, "fs"), 0o755); err != nil {
			return err
		}
		var err error
		if u, err = d.unpackImage(ctx, dir, tar); errors.Is(err, errNotRepresentable) {
			u, err = d.unpackDirectory(ctx, dir)
		}
		return err
	})
	if err != nil {
		return snapshotters.Usage{}, fmt.Errorf("erofs: unpack: %w", err)
	}
	return u, nil
}

// unpackImage keeps the tar and writes the image. If the layer can't be one,
// the tar is complete nevertheless.
func (d *Driver) unpackImage(ctx context.Context, dir string, tar io.Reader) (snapshotters.Usage, error) {
	var u snapshotters.Usage
	data, err := os.OpenFile(filepath.Join(dir, tarName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u, err
	}
	defer data.Close()
	keep := &keeper{src: tar, dst: data, limit: d.cfg.MaxLayerBytes}
	t, err := readTree(ctx, keep, limits{entries: layer.DefaultMaxEntries, bytes: d.cfg.MaxLayerBytes})
	if err != nil {
		if errors.Is(err, errNotRepresentable) {
			_, cerr := io.Copy(io.Discard, keep)
			err = errors.Join(err, cerr)
		}
		return u, err
	}
	if rest := keep.size % blockSize; rest != 0 {
		// The kernel reads whole blocks.
		if err := data.Truncate(keep.size + blockSize - rest); err != nil {
			return u, err
		}
	}
	image, err := os.OpenFile(filepath.Join(dir, imageName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u, err
	}
	size, err := writeImage(image, t, keep.size)
	if err = errors.Join(err, image.Close()); err != nil {
		return u, errors.Join(err, os.Remove(image.Name()))
	}
	return snapshotters.Usage{Inodes: 4, Size: (keep.size+4095)&^4095 + (size+4095)&^4095 + 8192}, nil
}

// unpackDirectory makes a directory layer of the tar that was kept.
func (d *Driver) unpackDirectory(ctx context.Context, dir string) (snapshotters.Usage, error) {
	name := filepath.Join(dir, tarName)
	tar, err := os.Open(name)
	if err != nil {
		return snapshotters.Usage{}, err
	}
	defer tar.Close()
	stats, err := layer.Apply(ctx, filepath.Join(dir, "fs"), tar, layer.Options{
		Whiteouts: layer.Overlay, UserXattr: d.stack.UserXattr, AllowUnmapped: d.stack.UserXattr, MaxBytes: d.cfg.MaxLayerBytes,
	})
	if err == nil {
		err = os.Remove(name)
	}
	return snapshotters.Usage{Inodes: stats.Inodes + 1, Size: stats.Size + 4096}, err
}

// Sync implements [snapshotters.Unpacker].
func (d *Driver) Sync(_ context.Context, ids []string) error {
	for _, id := range ids {
		if err := disk.CheckID(id); err != nil {
			return err
		}
		if _, err := os.Lstat(d.Path(id, imageName)); err != nil {
			return d.Store.Sync() // a directory among them: one sync for all
		}
	}
	for _, id := range ids {
		for _, name := range []string{tarName, imageName, "."} {
			if err := syncFile(d.Path(id, name)); err != nil {
				return fmt.Errorf("erofs: %w", err)
			}
		}
	}
	return syncFile(d.Path("."))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Diff implements [snapshotters.Differ].
func (d *Driver) Diff(ctx context.Context, s snapshotters.Storage, w io.Writer) error {
	if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
		return layer.DiffNothing(w)
	}
	return layer.DiffUpper(ctx, d.Path(s.ID, "fs"), w, layer.DiffOptions{})
}
