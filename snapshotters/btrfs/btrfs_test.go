package btrfs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

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
