package overlayfs_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/overlayfs"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

func open(t *testing.T) snapshotters.Driver {
	d, err := overlayfs.Open(t.TempDir(), overlayfs.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { snapshottest.Run(t, open) }

func TestRefusals(t *testing.T) {
	d := open(t)
	defer d.Close()
	many := snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Parents: make([]string, 501)}
	if _, err := d.Create(context.Background(), many); err == nil || !strings.Contains(err.Error(), "501 layers") {
		t.Error(err)
	}
	for _, most := range []string{"4194304", "0", "many"} {
		quota := snapshotters.Storage{ID: "x", Kind: snapshotters.KindActive, Labels: map[string]string{label.SnapshotMaxSize: most}}
		if _, err := d.Create(context.Background(), quota); !errdefs.IsInvalidArgument(err) {
			t.Errorf("a bound of %s that isn't kept: %v", most, err)
		}
	}
	if ids, err := d.List(context.Background()); err != nil || len(ids) > 0 {
		t.Errorf("left behind: %v, %v", ids, err)
	}
}

// TestBound: a snapshot takes no more than it was given, also across restarts, and
// what is below it doesn't count.
func TestBound(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for name, mkfs := range map[string][]string{
		"xfs":  {"mkfs.xfs", "-q"},
		"ext4": {"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"},
	} {
		t.Run(name, func(t *testing.T) { bound(t, mountDisk(t, mkfs)) })
	}
}

// mountDisk mounts a new file system with project quotas.
func mountDisk(t *testing.T, mkfs []string) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 512<<20)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{append(mkfs, image), {"mount", "-o", "loop,prjquota", image, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

func bound(t *testing.T, root string) {
	create := func(id, most string, parents ...string) []mount.Mount {
		t.Helper()
		d, err := overlayfs.Open(filepath.Join(root, "store"), overlayfs.Config{}) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		m, err := d.Create(t.Context(), snapshotters.Storage{ID: id, Kind: snapshotters.KindActive, Parents: parents, Labels: map[string]string{label.SnapshotMaxSize: most}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	write := func(m []mount.Mount, mib int) error {
		return mounts.WithTemp(t.Context(), m, func(dir string) error {
			f, err := os.Create(filepath.Join(dir, "file"))
			if err != nil {
				return err
			}
			defer f.Close()
			for range mib {
				if _, err := f.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
			return f.Sync()
		})
	}
	below := create("below", "67108864")
	if err := write(below, 32); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two"} {
		m := create(id, "8388608", "below")
		if err := write(m, 6); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := write(m, 24); !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) { // the latter is xfs's word
			t.Errorf("%s: 24 MiB fit into 8: %v", id, err)
		}
	}
}

// Broken drivers, to see that the suite can fail.

type keepsDeleted struct{ snapshotters.Unpacker }

func (d keepsDeleted) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	if len(s.Parents) > 1 {
		s.Parents = s.Parents[:1] // forgets the older layers
	}
	return d.Unpacker.Create(ctx, s)
}

type writableViews struct{ snapshotters.Unpacker }

func (d writableViews) Create(ctx context.Context, s snapshotters.Storage) ([]mount.Mount, error) {
	s.Kind = snapshotters.KindActive
	return d.Unpacker.Create(ctx, s)
}

type swallowsErrors struct{ snapshotters.Unpacker }

func (d swallowsErrors) Unpack(ctx context.Context, id string, tar io.Reader, l map[string]string) (snapshotters.Usage, error) {
	u, err := d.Unpacker.Unpack(ctx, id, tar, l)
	if err != nil {
		_, err = d.Create(ctx, snapshotters.Storage{ID: id, Kind: snapshotters.KindActive})
	}
	return u, err
}

func TestSuiteCanFail(t *testing.T) {
	wrap := map[string]func(snapshotters.Unpacker) snapshotters.Driver{
		"chain":                         func(d snapshotters.Unpacker) snapshotters.Driver { return keepsDeleted{d} },
		"views_can't_be_written":        func(d snapshotters.Unpacker) snapshotters.Driver { return writableViews{d} },
		"unpack_failing_leaves_nothing": func(d snapshotters.Unpacker) snapshotters.Driver { return swallowsErrors{d} },
	}
	if name := os.Getenv("BROKEN_DRIVER"); name != "" {
		snapshottest.Run(t, func(t *testing.T) snapshotters.Driver { return wrap[name](open(t).(snapshotters.Unpacker)) })
		return
	}
	if os.Getuid() != 0 {
		t.Skip("the suite skips without root")
	}
	for name := range wrap {
		cmd := exec.Command(os.Args[0], "-test.run=^TestSuiteCanFail$", "-test.v")
		cmd.Env = append(os.Environ(), "BROKEN_DRIVER="+name)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--- FAIL: TestSuiteCanFail/"+name) {
			t.Errorf("the suite doesn't see the broken driver %q:\n%s", name, out)
		}
	}
}
