package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/volume"
	"github.com/orlop/orlop/internal/mounts"
)

func open(t *testing.T, root string) *Driver {
	t.Helper()
	d, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func made(t *testing.T, d *Driver, name string, options map[string]string) volume.Volume {
	t.Helper()
	v := volume.Volume{Name: name, Driver: volume.Local, Options: options}
	must(t, d.Make(context.Background(), v))
	return v
}

func TestFoldersArePrivate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "volumes")
	must(t, os.Mkdir(root, 0o777))
	d := open(t, root)
	made(t, d, "data", nil)
	for _, dir := range []string{root, filepath.Join(root, "data"), filepath.Join(root, trashDir)} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}

func TestOptions(t *testing.T) {
	d := open(t, t.TempDir())
	for name, c := range map[string]struct {
		options map[string]string
		ok      bool
	}{
		"none":           {nil, true},
		"empty":          {map[string]string{}, true},
		"tmpfs":          {map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"}, true},
		"bind":           {map[string]string{"type": "none", "device": "/x", "o": "bind"}, true},
		"nfs":            {map[string]string{"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4,rw"}, true},
		"size":           {map[string]string{"size": "1g"}, true},
		"no device":      {map[string]string{"type": "tmpfs"}, false},
		"no type":        {map[string]string{"device": "/x", "o": "bind"}, false},
		"only o":         {map[string]string{"o": "bind"}, false},
		"unknown":        {map[string]string{"colour": "red"}, false},
		"bad size":       {map[string]string{"size": "much"}, false},
		"negative size":  {map[string]string{"size": "-1"}, false},
		"size and mount": {map[string]string{"type": "tmpfs", "device": "tmpfs", "size": "1m"}, false},
	} {
		err := d.Valid(c.options)
		if (err == nil) != c.ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a crash leaves at any step of making and removing is told apart.
func TestFoundAfterCrash(t *testing.T) {
	root := t.TempDir()
	d := open(t, root)
	made(t, d, "empty", nil)
	made(t, d, "full", nil)
	must(t, os.WriteFile(filepath.Join(d.Path("full"), "x"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(root, "half"), 0o700)) // without _data
	gone := made(t, d, "gone", nil)
	must(t, os.WriteFile(filepath.Join(d.Path("gone"), "x"), nil, 0o600))
	must(t, d.Remove(context.Background(), gone))
	must(t, os.MkdirAll(filepath.Join(d.folder("full"), fillDir, "torn"), 0o700))

	d = open(t, root)
	found, err := d.Found()
	must(t, err)
	if len(found) != 4 || !found["empty"].Empty || found["full"].Empty || found["full"].Removed || !found["half"].Empty || !found["gone"].Removed {
		t.Errorf("found %+v", found)
	}
	if _, err := os.Stat(filepath.Join(d.folder("full"), fillDir)); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was not filled to the end is still there")
	}
	must(t, d.Remove(context.Background(), made(t, d, "gone", nil))) // a number that is taken in the trash
	must(t, d.Discard(context.Background()))
	if left, _ := os.ReadDir(filepath.Join(root, trashDir)); len(left) > 0 {
		t.Errorf("left in the trash: %v", left)
	}
}

func TestFillIsAllOrNothing(t *testing.T) {
	ctx := context.Background()
	d := open(t, t.TempDir())
	for _, used := range []bool{false, true} {
		v := made(t, d, map[bool]string{false: "idle", true: "used"}[used], nil)
		torn := errors.New("torn")
		err := d.Fill(ctx, v, used, func(dir string) error {
			must(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
			return torn
		})
		if empty, _ := isEmpty(d.Path(v.Name)); !errors.Is(err, torn) || !empty {
			t.Errorf("a filling that failed: %v, empty %v", err, empty)
		}
		before, err := os.Stat(d.Path(v.Name))
		must(t, err)
		must(t, d.Fill(ctx, v, used, func(dir string) error {
			must(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o600))
			return os.Chmod(dir, os.ModeSticky|0o770)
		}))
		after, err := os.Stat(d.Path(v.Name))
		must(t, err)
		if after.Mode() != os.ModeDir|os.ModeSticky|0o770 {
			t.Errorf("mode %v", after.Mode())
		}
		if used != os.SameFile(before, after) {
			t.Errorf("used %v: the folder is another: %v", used, !os.SameFile(before, after))
		}
		must(t, d.Fill(ctx, v, used, func(string) error { t.Error("filled twice"); return nil }))
		if list, _ := os.ReadDir(d.folder(v.Name)); len(list) != 1 {
			t.Errorf("left: %v", list)
		}
	}
}

func TestMountedVolume(t *testing.T) {
	needRoot(t)
	ctx := context.Background()
	root := t.TempDir()
	d := open(t, root)
	v := made(t, d, "mem", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid"})
	t.Cleanup(func() { mounts.UnmountAll(d.Path("mem"), true) })
	must(t, d.Mount(ctx, v))
	must(t, d.Mount(ctx, v)) // twice is once
	must(t, os.WriteFile(filepath.Join(d.Path("mem"), "x"), nil, 0o600))
	d = open(t, root) // a daemon that was killed finds it
	if found, err := d.Found(); err != nil || found["mem"].Empty {
		t.Errorf("%+v, %v", found, err)
	}
	must(t, d.Unmount(ctx, v))
	must(t, d.Unmount(ctx, v))
	if mounted, _ := mounts.IsMountPoint(d.Path("mem")); mounted {
		t.Error("it is still mounted")
	}
	lost := made(t, d, "lost", map[string]string{"type": "none", "device": filepath.Join(root, "nowhere"), "o": "bind"})
	if err := d.Mount(ctx, lost); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mounting nothing: %v", err)
	}
}

func TestUsage(t *testing.T) {
	d := open(t, t.TempDir())
	made(t, d, "data", nil)
	before, err := d.Usage(context.Background(), "data")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(d.Path("data"), "a"), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	must(t, os.Link(filepath.Join(d.Path("data"), "a"), filepath.Join(d.Path("data"), "b")))
	must(t, os.Symlink("/usr", filepath.Join(d.Path("data"), "out")))
	after, err := d.Usage(context.Background(), "data")
	must(t, err)
	if more := after - before; more < 1<<20 || more > 1<<20+64<<10 {
		t.Errorf("a MiB with two names takes %d bytes", more)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
}

// disk mounts a file system with project quotas.
func disk(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	needRoot(t)
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("needs %s", mkfs[0])
	}
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, dir).CombinedOutput(); err != nil {
		t.Skipf("this kernel has no %s with project quotas: %s", mkfs[0], out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// write writes MiBs as a container would: without the capability that lifts quotas.
func write(path string, mib int) ([]byte, error) {
	return exec.Command("setpriv", "--bounding-set=-sys_resource", "dd", "if=/dev/zero", "of="+path, "bs=1M", fmt.Sprintf("count=%d", mib)).CombinedOutput()
}

func TestQuota(t *testing.T) {
	for name, mkfs := range map[string][]string{
		"xfs":  {"mkfs.xfs", "-q"},
		"ext4": {"mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota"},
	} {
		t.Run(name, func(t *testing.T) {
			root := disk(t, 512<<20, mkfs...)
			d := open(t, root)
			made(t, d, "small", map[string]string{"size": "4m"})
			made(t, d, "large", map[string]string{"size": "64m"})
			// Across a restart, a new volume gets a bound of its own.
			d = open(t, root)
			made(t, d, "other", map[string]string{"size": "4m"})
			must(t, os.Mkdir(filepath.Join(d.Path("small"), "sub"), 0o700))
			mib := bytes.Repeat([]byte("x"), 1<<20)
			for _, c := range []struct {
				file string
				n    int
				fits bool
			}{{"large/_data/a", 16, true}, {"small/_data/sub/a", 3, true}, {"small/_data/b", 3, false}, {"other/_data/a", 3, true}} {
				if out, err := write(filepath.Join(root, c.file), c.n); (err == nil) != c.fits {
					t.Errorf("%d MiB in %s: %v: %s", c.n, c.file, err, out)
				}
			}
			v := volume.Volume{Name: "filled", Options: map[string]string{"size": "4m"}}
			must(t, d.Make(context.Background(), v))
			must(t, d.Fill(context.Background(), v, false, func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), mib, 0o600) }))
			if _, err := write(filepath.Join(d.Path("filled"), "b"), 4); err == nil {
				t.Error("a filled volume has lost its bound")
			}
			must(t, errors.Join(d.Remove(context.Background(), v), d.Discard(context.Background())))
		})
	}
}

// Without quotas a bound is refused, and nothing is left of the volume.
func TestQuotaRefused(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	must(t, unix.Mount("tmpfs", root, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	d := open(t, root)
	err := d.Make(context.Background(), volume.Volume{Name: "small", Options: map[string]string{"size": "1m"}})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	list, _ := os.ReadDir(root)
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{trashDir}) {
		t.Errorf("left: %v", names)
	}
}
