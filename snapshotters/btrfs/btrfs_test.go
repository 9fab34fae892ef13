package btrfs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/btrfs"
	"github.com/orlop/orlop/snapshotters/snapshottest"
)

// volume makes a btrfs in a file and mounts it.
func volume(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil {
		t.Skip("no mkfs.btrfs (package btrfs-progs)")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(image, 256<<20), os.Mkdir(at, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{mkfs, "-q", image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%v: %s", c, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return at
}

func TestConformance(t *testing.T) {
	root := volume(t)
	snapshottest.Run(t, func(t *testing.T) snapshotters.Driver {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		d, err := btrfs.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestOtherFileSystem(t *testing.T) {
	if _, err := btrfs.Open("/dev/shm/orlop-btrfs-test"); !errdefs.IsNotImplemented(err) {
		t.Error(err)
	}
	os.RemoveAll("/dev/shm/orlop-btrfs-test")
}

// TestBound: a snapshot takes no more of its own than it was given, whatever it shares
// with its parent; without quotas it isn't made.
func TestBound(t *testing.T) {
	root := volume(t)
	d, err := btrfs.Open(filepath.Join(root, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	create := func(id, most string, parents ...string) error {
		labels := map[string]string{}
		if most != "" {
			labels[label.SnapshotMaxSize] = most
		}
		_, err := d.Create(t.Context(), snapshotters.Storage{ID: id, Kind: snapshotters.KindActive, Parents: parents, Labels: labels})
		return err
	}
	if err := create("early", "8388608"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "btrfs quota enable") {
		t.Errorf("without quotas: %v", err)
	}
	if ids, err := d.List(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("left behind: %v, %v", ids, err)
	}
	if out, err := exec.Command("btrfs", "quota", "enable", root).CombinedOutput(); err != nil {
		t.Skipf("btrfs quota enable: %s", out)
	}
	write := func(id string, mib int) error {
		file := filepath.Join(d.Path(id, "fs"), "file")
		return exec.Command("dd", "if=/dev/urandom", "of="+file, "bs=1M", "count="+strconv.Itoa(mib), "conv=fsync").Run()
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(create("below", ""))
	ok(write("below", 32))
	ok(create("small", "8388608", "below"))
	ok(create("free", "", "below"))
	if err := os.Rename(filepath.Join(d.Path("small", "fs"), "file"), filepath.Join(d.Path("small", "fs"), "old")); err != nil {
		t.Fatal(err)
	}
	ok(write("small", 4))
	if err := write("small", 24); err == nil {
		t.Error("24 MiB fit into 8")
	}
	ok(write("free", 24))
	if err := create("bad", "many"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a bad bound: %v", err)
	}
	for _, id := range []string{"small", "free", "below"} {
		ok(d.Remove(t.Context(), id))
	}
}
