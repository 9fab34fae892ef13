package mounts

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/userns"
)

// owner is who a file belongs to.
func owner(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// An overlay shows the owners of all layers shifted, and what is written to it is
// unshifted on the disk, whether its layers are attached while it is made or not.
func TestShiftedOverlay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	ns, err := userns.New(userns.Maps{UIDs: ids, GIDs: ids}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	older := detachedLayers
	defer func() { detachedLayers = older }()
	for _, detached := range []bool{older(), false} {
		detachedLayers = func() bool { return detached }
		t.Run(fmt.Sprint("detached=", detached), func(t *testing.T) { shiftedOverlay(t, fmt.Sprintf("/proc/self/fd/%d", ns.User.Fd())) })
	}
}

func shiftedOverlay(t *testing.T, users string) {
	dir := t.TempDir()
	for _, sub := range []string{"a:b", "c", "s/fs", "s/work", "top"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, uid := range map[string]int{"a:b/root": 0, "c/user": 5, "s/fs/upper": 7} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, name), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + EscapeLayer(dir+"/a:b") + ":" + dir + "/c", "upperdir=" + dir + "/s/fs", "workdir=" + dir + "/s/work", IDMap(users)}}
	top := filepath.Join(dir, "top")
	if err := All([]mount.Mount{m}, top); err != nil {
		t.Fatal(err)
	}
	defer UnmountAll(top, true)
	for name, want := range map[string]uint32{"root": 100000, "user": 100005, "upper": 100007, ".": 100000} {
		if got := owner(t, filepath.Join(top, name)); got != want {
			t.Errorf("%s belongs to %d, want %d", name, got, want)
		}
	}
	if err := os.Chown(top+"/root", 100009, 100009); err != nil {
		t.Fatal(err)
	}
	if got := owner(t, dir+"/s/fs/root"); got != 9 {
		t.Errorf("on the disk a file of 100009 belongs to %d", got)
	}
	left, err := filepath.Glob(os.TempDir() + "/orlop-layers-*")
	if err != nil || len(left) > 0 {
		t.Error("left:", left, err)
	}
}

func TestShiftedRefusals(t *testing.T) {
	if err := All([]mount.Mount{{Type: "tmpfs", Source: "tmpfs", Options: []string{IDMap("/proc/self/ns/user")}}}, t.TempDir()); err == nil {
		t.Error("a tmpfs is mounted as if its owners were shifted")
	}
}
