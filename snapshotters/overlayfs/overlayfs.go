// Package overlayfs keeps snapshots as directories that overlayfs stacks.
//
// A snapshot is <root>/snapshots/<id>/fs, the upper directory while it is
// active and a lower one afterwards; work/ beside it exists while it is active.
// Layers are unpacked with overlayfs's own marks for deletions, so that they
// need no parents and the layers of an image can be unpacked side by side.
//
// The driver mounts nothing: it says how to. Its mounts are plain options that
// mount(2) takes as well. All methods are safe for concurrent use. Sync and
// Commit make durable with one syncfs; before it, a crash leaves directories
// that List shows and Remove takes.
package overlayfs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/disk"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Labels that this driver reads on Create.
const (
	// LabelVolatile, set to "true", mounts without syncs: for containers whose
	// writes nobody wants after a crash.
	LabelVolatile = "orlop.dev/snapshot/volatile"

	labelUIDMap  = "containerd.io/snapshot/uidmapping"
	labelGIDMap  = "containerd.io/snapshot/gidmapping"
	labelMaxSize = "containerd.io/snapshot/max-size"
)

// maxLowers is how many lower directories overlayfs stacks (OVL_MAX_STACK).
const maxLowers = 500

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
	cfg       Config
	options   []string
	userXattr bool
}

var (
	_ snapshotters.Unpacker = (*Driver)(nil)
	_ snapshotters.Differ   = (*Driver)(nil)
)

// Open takes the folder root, which is made if missing, into use.
func Open(root string, cfg Config) (*Driver, error) {
	text, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(text), "\toverlay\n") {
		return nil, fmt.Errorf("overlayfs: the kernel has no overlay file system: %w", errdefs.ErrNotImplemented)
	}
	store, err := disk.Open(root)
	if err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	d := &Driver{Store: store, cfg: cfg, userXattr: inUserNamespace()}
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		d.options = append(d.options, "index=off") // lower layers are shared by many overlays
	}
	if d.userXattr {
		d.options = append(d.options, "userxattr")
	}
	d.options = append(d.options, cfg.Options...)
	return d, nil
}

// inUserNamespace tells by the map of user IDs, which is the identity outside.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
}

func (d *Driver) fs(id string) string { return d.Path(id, "fs") }

// Create implements [snapshotters.Driver].
func (d *Driver) Create(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	err := d.Make(s.ID, func(dir string) error {
		if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
			return nil
		}
		fs := filepath.Join(dir, "fs")
		if err := os.Mkdir(fs, 0o755); err != nil {
			return err
		}
		if s.Kind == snapshotters.KindView {
			return nil
		}
		if len(s.Parents) > 0 {
			if err := disk.CopyRoot(d.fs(s.Parents[0]), fs); err != nil {
				return err
			}
		}
		return os.Mkdir(filepath.Join(dir, "work"), 0o700)
	})
	if err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	return d.mounts(s), nil
}

// check refuses what the driver can't do, rather than doing less.
func check(s snapshotters.Storage) error {
	if len(s.Parents) > maxLowers {
		return fmt.Errorf("overlayfs: %d layers, and the kernel stacks %d: squash the image: %w",
			len(s.Parents), maxLowers, errdefs.ErrInvalidArgument)
	}
	for _, l := range []string{labelUIDMap, labelGIDMap, labelMaxSize} {
		if s.Labels[l] != "" {
			return fmt.Errorf("overlayfs: label %s: %w", l, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

// Mounts implements [snapshotters.Driver].
func (d *Driver) Mounts(_ context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if _, err := os.Stat(d.Path(s.ID)); err != nil {
		return nil, fmt.Errorf("overlayfs: %w", err)
	}
	return d.mounts(s), nil
}

func (d *Driver) mounts(s snapshotters.Storage) []mount.Mount {
	view := s.Kind == snapshotters.KindView
	switch {
	case len(s.Parents) == 0 && view:
		return bind(d.fs(s.ID), "ro")
	case len(s.Parents) == 0:
		return bind(d.fs(s.ID), "rw")
	case len(s.Parents) == 1 && view:
		return bind(d.fs(s.Parents[0]), "ro")
	}
	lowers := make([]string, len(s.Parents))
	for i, p := range s.Parents {
		lowers[i] = mounts.EscapeLayer(d.fs(p))
	}
	opts := append([]string{}, d.options...)
	if !view {
		opts = append(opts, "workdir="+d.Path(s.ID, "work"), "upperdir="+d.fs(s.ID))
		if s.Labels[LabelVolatile] == "true" {
			opts = append(opts, "volatile")
		}
	}
	opts = append(opts, "lowerdir="+strings.Join(lowers, ":"))
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: opts}}
}

func bind(dir, mode string) []mount.Mount {
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{mode, "rbind"}}}
}

// Commit implements [snapshotters.Driver].
func (d *Driver) Commit(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	u, err := disk.Usage(ctx, d.fs(s.ID))
	if err != nil {
		return u, fmt.Errorf("overlayfs: %w", err)
	}
	if err := os.RemoveAll(d.Path(s.ID, "work")); err != nil {
		return u, fmt.Errorf("overlayfs: %w", err)
	}
	return u, d.Store.Sync()
}

// Usage implements [snapshotters.Driver].
func (d *Driver) Usage(ctx context.Context, s snapshotters.Storage) (snapshotters.Usage, error) {
	if s.Kind == snapshotters.KindView {
		return snapshotters.Usage{}, nil
	}
	return disk.Usage(ctx, d.fs(s.ID))
}

// Remove implements [snapshotters.Driver].
func (d *Driver) Remove(_ context.Context, id string) error { return d.Store.Remove(id) }

// List implements [snapshotters.Driver].
func (d *Driver) List(context.Context) ([]string, error) { return d.Store.List() }

// Unpack implements [snapshotters.Unpacker].
func (d *Driver) Unpack(ctx context.Context, id string, tar io.Reader, _ map[string]string) (snapshotters.Usage, error) {
	var stats layer.Stats
	err := d.Make(id, func(dir string) error {
		fs := filepath.Join(dir, "fs")
		if err := os.Mkdir(fs, 0o755); err != nil {
			return err
		}
		var err error
		stats, err = layer.Apply(ctx, fs, tar, layer.Options{
			Whiteouts: layer.Overlay, UserXattr: d.userXattr, AllowUnmapped: d.userXattr, MaxBytes: d.cfg.MaxLayerBytes,
		})
		return err
	})
	if err != nil {
		return snapshotters.Usage{}, fmt.Errorf("overlayfs: unpack: %w", err)
	}
	return snapshotters.Usage{Inodes: stats.Inodes + 1, Size: stats.Size + 4096}, nil
}

// Sync implements [snapshotters.Unpacker].
func (d *Driver) Sync(context.Context, []string) error { return d.Store.Sync() }

// Diff implements [snapshotters.Differ].
func (d *Driver) Diff(ctx context.Context, s snapshotters.Storage, w io.Writer) error {
	if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
		return layer.DiffNothing(w)
	}
	return layer.DiffUpper(ctx, d.fs(s.ID), w, layer.DiffOptions{})
}
