package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
)

// Labels that drivers with overlays read on Create, beside label.SnapshotVolatile and
// label.SnapshotMaxSize.
const (
	labelUIDMap = "containerd.io/snapshot/uidmapping"
	labelGIDMap = "containerd.io/snapshot/gidmapping"
)

// maxLowers is how many lower directories overlayfs stacks (OVL_MAX_STACK).
const maxLowers = 500

// Stack shows directories <id>/fs on top of each other by overlayfs. The upper
// directory's work directory is <id>/work.
type Stack struct {
	// UserXattr tells that this process is in a user namespace, where overlays
	// keep their marks in the "user." attributes.
	UserXattr bool
	options   []string
}

// NewStack asks the kernel what it can. The options are added to each overlay.
func NewStack(options []string) (Stack, error) {
	text, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(text), "\toverlay\n") {
		return Stack{}, fmt.Errorf("the kernel has no overlay file system: %w", errdefs.ErrNotImplemented)
	}
	k := Stack{UserXattr: inUserNamespace()}
	if _, err := os.Stat("/sys/module/overlay/parameters/index"); err == nil {
		k.options = append(k.options, "index=off") // lower layers are shared by many overlays
	}
	if k.UserXattr {
		k.options = append(k.options, "userxattr")
	}
	k.options = append(k.options, options...)
	return k, nil
}

// inUserNamespace tells by the map of user IDs, which is the identity outside.
func inUserNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
}

// Create makes the directories of a snapshot. The nearest parent's must be
// there (mounted), for the root's owner and mode are taken from it.
func (k Stack) Create(d *Store, s snapshotters.Storage) error {
	if err := check(s); err != nil {
		return err
	}
	most, err := s.MaxSize()
	if err != nil {
		return err
	}
	return d.Make(s.ID, func(dir string) error {
		if s.Kind == snapshotters.KindView && len(s.Parents) > 0 {
			return nil
		}
		if err := d.Bound(dir, most); err != nil { // what is made in it counts, too
			return err
		}
		fs := filepath.Join(dir, "fs")
		if err := os.Mkdir(fs, 0o755); err != nil {
			return err
		}
		if s.Kind == snapshotters.KindView {
			return nil
		}
		if len(s.Parents) > 0 {
			if err := CopyRoot(d.Path(s.Parents[0], "fs"), fs); err != nil {
				return err
			}
		}
		return os.Mkdir(filepath.Join(dir, "work"), 0o700)
	})
}

// check refuses what can't be done, rather than doing less.
func check(s snapshotters.Storage) error {
	if s.Kind != snapshotters.KindActive && s.Kind != snapshotters.KindView {
		return errors.New("only active snapshots and views can be made")
	}
	if len(s.Parents) > maxLowers {
		return fmt.Errorf("%d layers, and the kernel stacks %d: squash the image: %w",
			len(s.Parents), maxLowers, errdefs.ErrInvalidArgument)
	}
	for _, l := range []string{labelUIDMap, labelGIDMap} {
		if s.Labels[l] != "" {
			return fmt.Errorf("label %s: %w", l, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

// Mounts tells how to mount a snapshot, in options that mount(2) takes too.
func (k Stack) Mounts(d *Store, s snapshotters.Storage) []mount.Mount {
	view := s.Kind == snapshotters.KindView
	switch {
	case len(s.Parents) == 0 && view:
		return bind(d.Path(s.ID, "fs"), "ro")
	case len(s.Parents) == 0:
		return bind(d.Path(s.ID, "fs"), "rw")
	case len(s.Parents) == 1 && view:
		return bind(d.Path(s.Parents[0], "fs"), "ro")
	}
	lowers := make([]string, len(s.Parents))
	for i, p := range s.Parents {
		lowers[i] = mounts.EscapeLayer(d.Path(p, "fs"))
	}
	opts := append([]string{}, k.options...)
	if !view {
		opts = append(opts, "workdir="+mounts.EscapeLayer(d.Path(s.ID, "work")), "upperdir="+mounts.EscapeLayer(d.Path(s.ID, "fs")))
		if s.Labels[label.SnapshotVolatile] == "true" {
			opts = append(opts, "volatile")
		}
	}
	opts = append(opts, "lowerdir="+strings.Join(lowers, ":"))
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: opts}}
}

// Again makes a snapshot ready to be mounted once more: a volatile overlay leaves a
// mark that forbids it, as the kernel can't know that nothing was lost.
func (k Stack) Again(d *Store, s snapshotters.Storage) error {
	if s.Labels[label.SnapshotVolatile] != "true" {
		return nil
	}
	return os.RemoveAll(d.Path(s.ID, "work", "work", "incompat"))
}

func bind(dir, mode string) []mount.Mount {
	return []mount.Mount{{Type: "bind", Source: dir, Options: []string{mode, "rbind"}}}
}
