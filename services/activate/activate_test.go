package activate_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/activate"
)

type rig struct {
	*testing.T
	db  *metadata.DB
	dir string
	m   *activate.Manager
	ctx context.Context
}

func open(t *testing.T) *rig {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	blobs, err := local.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := metadata.Open(filepath.Join(t.TempDir(), "meta.db"), metadata.DefaultConfig(), metadata.Backends{Content: blobs})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, db: db, dir: t.TempDir(), ctx: namespaces.With(t.Context(), "demo")}
	r.restart()
	t.Cleanup(func() {
		defer db.Close()
		all, _ := r.m.List(r.ctx)
		for _, a := range all {
			r.m.Deactivate(namespaces.With(context.Background(), "demo"), a.Name)
		}
		data, _ := os.ReadFile("/proc/self/mountinfo")
		if strings.Contains(string(data), r.dir) {
			t.Errorf("mounts are left:\n%s", data)
		}
		if left, _ := filepath.Glob(filepath.Join(r.dir, "*")); len(left) > 0 {
			t.Errorf("folders are left: %v", left)
		}
	})
	return r
}

// restart is what a start of the daemon does.
func (r *rig) restart() {
	m, err := activate.Open(r.ctx, r.db.Mounts(), r.dir, r.db.Namespaces())
	r.must(err)
	r.m = m
	r.db.OnUnmount(m.Release)
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// layer is a bind of a folder with one file.
func (r *rig) layer(name string) mount.Mount {
	dir := r.TempDir()
	r.must(os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644))
	return mount.Mount{Type: "bind", Source: dir, Options: []string{"bind", "ro"}}
}

func (r *rig) layers() []mount.Mount {
	return []mount.Mount{r.layer("a"), r.layer("b"), {Type: "format/overlay", Source: "overlay", Options: []string{"lowerdir={{ overlay 0 1 }}"}}}
}

// content lists the files that the system's mounts show.
func (r *rig) content(a mount.Activation) string {
	r.Helper()
	var names []string
	r.must(mounts.WithTemp(r.ctx, a.System, func(root string) error {
		files, err := os.ReadDir(root)
		for _, f := range files {
			names = append(names, f.Name())
		}
		return err
	}))
	return strings.Join(names, " ")
}

func TestFormat(t *testing.T) {
	r := open(t)
	a, err := r.m.Activate(r.ctx, "box", r.layers(), mount.ActivateOptions{Labels: map[string]string{"x": "y"}})
	r.must(err)
	if len(a.Active) != 2 || len(a.System) != 1 || a.System[0].Type != "overlay" || a.System[0].Options[0] != "lowerdir="+a.Active[0].Point+":"+a.Active[1].Point {
		t.Fatalf("activation %+v", a)
	}
	if got := r.content(a); got != "a b" {
		t.Errorf("shows %s", got)
	}
	if _, err := r.m.Activate(r.ctx, "box", r.layers(), mount.ActivateOptions{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := r.m.Info(namespaces.With(t.Context(), "other"), "box"); !errdefs.IsNotFound(err) {
		t.Errorf("from another namespace: %v", err)
	}
	_, err = r.m.Update(r.ctx, mount.Activation{Name: "box", Labels: map[string]string{"x": "z"}}, "labels.x")
	r.must(err)
	if all, err := r.m.List(r.ctx, `labels.x==z`); err != nil || len(all) != 1 {
		t.Errorf("list: %v %v", all, err)
	}
	r.restart() // they stand, so they stay
	if got := r.content(a); got != "a b" {
		t.Errorf("after a restart it shows %s", got)
	}
	r.must(r.m.Deactivate(r.ctx, "box"))
	if err := r.m.Deactivate(r.ctx, "box"); !errdefs.IsNotFound(err) {
		t.Errorf("again: %v", err)
	}
}

func TestSystemCanDoIt(t *testing.T) {
	r := open(t)
	list := []mount.Mount{r.layer("a")}
	if _, err := r.m.Activate(r.ctx, "box", list, mount.ActivateOptions{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("plain mounts: %v", err)
	}
	a, err := r.m.Activate(r.ctx, "box", list, mount.ActivateOptions{Temporary: true})
	r.must(err)
	if got := r.content(a); got != "a" || a.System[0].Type != "bind" {
		t.Errorf("temporary: %s %+v", got, a)
	}
}

func TestLoop(t *testing.T) {
	r := open(t)
	image := filepath.Join(t.TempDir(), "image")
	r.must(os.WriteFile(image, nil, 0o600))
	r.must(os.Truncate(image, 4<<20))
	if out, err := exec.Command("/sbin/mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	a, err := r.m.Activate(r.ctx, "disk", []mount.Mount{{Type: "loop", Source: image}, {Type: "format/ext4", Source: "{{ mount 0 }}"}}, mount.ActivateOptions{})
	r.must(err)
	if got := r.content(a); got != "lost+found" {
		t.Errorf("shows %s", got)
	}
	r.restart()
	device := a.Active[0].Point
	backing := "/sys/block/" + filepath.Base(device) + "/loop/backing_file"
	if _, err := os.Stat(backing); err != nil {
		t.Errorf("a restart took the device: %v", err)
	}
	r.must(r.m.Deactivate(r.ctx, "disk"))
	if data, _ := os.ReadFile(backing); strings.Contains(string(data), image) {
		t.Errorf("%s is still attached to %s", device, data)
	}
}

func TestMkdir(t *testing.T) {
	r := open(t)
	upper := t.TempDir()
	outside := t.TempDir()
	r.must(os.Symlink(outside, filepath.Join(upper, "link")))
	bind := mount.Mount{Type: "bind", Source: upper, Options: []string{"bind"}}
	overlay := func(path string) []mount.Mount {
		return []mount.Mount{bind, {Type: "format/mkdir/bind", Source: "{{ mount 0 }}", Options: []string{"X-containerd.mkdir.path=" + path, "bind"}}}
	}
	a, err := r.m.Activate(r.ctx, "box", overlay("{{ mount 0 }}/work:0711:7:8"), mount.ActivateOptions{})
	r.must(err)
	info, err := os.Stat(filepath.Join(upper, "work"))
	r.must(err)
	if info.Mode().Perm() != 0o711 || len(a.System[0].Options) != 1 {
		t.Errorf("mode %v, options %v", info.Mode(), a.System[0].Options)
	}
	for _, path := range []string{outside + "/x", "{{ mount 0 }}/../x", "{{ mount 0 }}/link/x", "{{ mount 1 }}/x", "{{ mount 0 }}/y:99", "{{ mount 0 }}/y:755:1"} {
		if _, err := r.m.Activate(r.ctx, "bad", overlay(path), mount.ActivateOptions{}); err == nil {
			t.Errorf("%s was made", path)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("a folder outside was made: %v", left)
	}
}

func TestMistakes(t *testing.T) {
	r := open(t)
	for name, list := range map[string][]mount.Mount{
		"none":      {},
		"transform": {r.layer("a"), {Type: "mkfs/ext4"}},
		"number":    {r.layer("a"), {Type: "format/bind", Source: "{{ mount 3 }}"}},
		"word":      {r.layer("a"), {Type: "format/bind", Source: "{{ secret 0 }}"}},
		"missing":   {{Type: "loop", Source: "/nonexistent/image"}},
		"fails":     {r.layer("a"), {Type: "bind", Source: "/nonexistent", Options: []string{"bind"}}, {Type: "format/bind", Source: "{{ mount 0 }}"}},
	} {
		if _, err := r.m.Activate(r.ctx, name, list, mount.ActivateOptions{}); err == nil {
			t.Errorf("%s is no mistake", name)
		}
	}
	if all, _ := r.m.List(r.ctx); len(all) != 0 {
		t.Errorf("recorded: %v", all)
	}
}

// A lease holds an activation, and the collector undoes it afterwards.
func TestLease(t *testing.T) {
	r := open(t)
	_, err := r.db.Leases().Create(r.ctx, lease.Lease{ID: "l"})
	r.must(err)
	a, err := r.m.Activate(lease.With(r.ctx, "l"), "box", r.layers(), mount.ActivateOptions{})
	r.must(err)
	_, err = r.m.Activate(r.ctx, "kept", r.layers(), mount.ActivateOptions{})
	r.must(err)
	_, err = r.db.Collect(r.ctx)
	r.must(err)
	if got := r.content(a); got != "a b" {
		t.Errorf("under the lease it shows %s", got)
	}
	r.must(r.db.Leases().Delete(r.ctx, "l", true))
	if _, err := r.m.Info(r.ctx, "box"); !errdefs.IsNotFound(err) {
		t.Errorf("without the lease: %v", err)
	}
	if on, _ := mounts.IsMountPoint(a.Active[0].Point); on {
		t.Error("it is still mounted")
	}
	if _, err := r.m.Info(r.ctx, "kept"); err != nil {
		t.Errorf("one without a lease was collected: %v", err)
	}
}

// What a crash and a reboot leave.
func TestCrash(t *testing.T) {
	r := open(t)
	a, err := r.m.Activate(r.ctx, "rebooted", r.layers(), mount.ActivateOptions{})
	r.must(err)
	for _, x := range a.Active {
		r.must(mounts.Unmount(x.Point, false))
	}
	orphan := filepath.Join(r.dir, "demo", "orphan", "0")
	r.must(os.MkdirAll(orphan, 0o700))
	r.must(mounts.All([]mount.Mount{r.layer("a")}, orphan))
	r.restart()
	if on, _ := mounts.IsMountPoint(orphan); on {
		t.Error("the orphan is still mounted")
	}
	if _, err := r.m.Info(r.ctx, "rebooted"); !errdefs.IsNotFound(err) {
		t.Errorf("what a reboot took is still recorded: %v", err)
	}
}
