package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/fsck"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/erofs"
	"github.com/orlop/orlop/snapshotters/native"
	"github.com/orlop/orlop/snapshotters/overlayfs"
)

// statuses are the tasks that the daemon knows, by ID.
func (r *rig) statuses() map[string]string {
	out, code := r.ctr("tasks", "ls")
	if code != 0 {
		r.t.Errorf("ctr tasks ls: exit %d\n%s", code, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] != "TASK" {
			found[f[0]] = f[2]
		}
	}
	return found
}

// lookAt compares the tasks with what was promised, and removes those that ended.
// Containers go on without shim and daemon; only how they ended is known to
// nobody if both were dead then.
func (w *taskWorker) lookAt(shimKilled bool) {
	t, before := w.r.t, time.Now()
	statuses := w.r.statuses()
	after := time.Now()
	var rest []task
	for _, k := range w.tasks {
		status, ok := statuses[k.id]
		over := before.After(k.until.Add(time.Second))
		switch {
		case !ok:
			t.Errorf("container %s has lost its task", k.id)
		case status == "STOPPED" && after.Before(k.early):
			t.Errorf("container %s is stopped, it should run", k.id)
		case over && status != "STOPPED" && !w.stops(k.id):
			t.Errorf("container %s is %s, it ended %s ago", k.id, status, time.Since(k.until))
		case over:
			w.reap(k, shimKilled)
		default:
			rest = append(rest, k)
		}
	}
	w.tasks = rest
}

// stops waits for a task to be seen as stopped.
func (w *taskWorker) stops(id string) bool {
	for range 50 {
		if w.r.statuses()[id] == "STOPPED" {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

// reap deletes a task that ended, and compares its exit code.
func (w *taskWorker) reap(k task, shimKilled bool) {
	out, code := w.r.ctr("tasks", "rm", k.id)
	right := code == 0
	if k.code != 0 {
		right = strings.Contains(out, fmt.Sprintf("exit code %d", k.code))
	}
	if !right && !(shimKilled && strings.Contains(out, "exit code 255")) {
		w.r.t.Errorf("container %s: %q (exit %d), it ended with %d", k.id, out, code, k.code)
	}
	if out, code := w.r.ctr("containers", "rm", k.id); code != 0 {
		w.r.t.Errorf("ctr containers rm %s: exit %d\n%s", k.id, code, out)
	}
}

// lookAt wants an image whose pull was acknowledged, complete and runnable.
func (w *imageWorker) lookAt() {
	if !w.known {
		return
	}
	names := w.r.lines("images", "ls", "-q")
	if slices.Contains(names, w.name) != w.present {
		w.r.t.Errorf("image %s: there %v, acknowledged %v", w.name, !w.present, w.present)
	}
	if !w.present {
		return
	}
	out, code := w.r.ctr("images", "check", "name=="+w.name)
	if code != 0 || !strings.Contains(out, "complete") || strings.Contains(out, "incomplete") {
		w.r.t.Errorf("image %s isn't complete: exit %d\n%s", w.name, code, out)
	}
}

// stores opens the stores of a daemon that is stopped.
func (r *rig) stores() (*fsck.Checker, func()) {
	blobs, err := local.Open(filepath.Join(r.root, "io.containerd.content.v1.content"))
	if err != nil {
		r.t.Fatal(err)
	}
	drivers := map[string]snapshotters.Driver{}
	dir := func(name string) string { return filepath.Join(r.root, "io.containerd.snapshotter.v1."+name) }
	if drivers["overlayfs"], err = overlayfs.Open(dir("overlayfs"), overlayfs.Config{}); err != nil {
		r.t.Fatal(err)
	}
	if drivers["native"], err = native.Open(dir("native")); err != nil {
		r.t.Fatal(err)
	}
	if d, err := erofs.Open(dir("erofs"), erofs.Config{}); err == nil {
		drivers["erofs"] = d
	}
	db, err := metadata.Open(filepath.Join(r.root, "io.containerd.metadata.v1.bolt", "meta.db"), metadata.DefaultConfig(), metadata.Backends{Content: blobs, Drivers: drivers})
	if err != nil {
		r.t.Fatalf("the database doesn't open: %v", err)
	}
	return &fsck.Checker{DB: db, Blobs: blobs, Drivers: drivers}, func() {
		db.Close()
		for _, d := range drivers {
			if c, ok := d.(interface{ Close() error }); ok {
				c.Close()
			}
		}
	}
}

// fsck compares names with bytes and re-hashes every blob. The daemon is stopped
// and has reconciled at its start, so there is nothing to find. Only a container
// that a client was about to remove may lack its snapshot: ctr removes that first.
func (r *rig) fsck(promised ...task) {
	r.t.Helper()
	halfRemoved := func(f *fsck.Finding) bool {
		return f.Code == "container-dangling" && !slices.ContainsFunc(promised, func(k task) bool { return strings.Contains(f.Message, "/"+k.id+",") })
	}
	c, closeAll := r.stores()
	defer closeAll()
	_, err := c.Check(context.Background(), fsck.Options{Verify: true}, func(f *fsck.Finding, _ fsck.Progress) error {
		if f != nil && f.Severity > fsck.Note && !halfRemoved(f) {
			r.t.Errorf("fsck: %s: %s", f.Code, f.Message)
		}
		return nil
	})
	if err != nil {
		r.t.Error("fsck:", err)
	}
	found, err := c.DB.Reconcile(context.Background())
	if err != nil {
		r.t.Error("reconcile:", err)
	}
	for _, f := range found {
		r.t.Errorf("left after a clean stop: %s %s", f.Kind, f.What)
	}
}

// clean removes everything by the client and wants nothing to be left: no
// snapshot, blob, ingest, mount, cgroup or bundle.
func (r *rig) clean() {
	r.t.Helper()
	for _, id := range r.lines("tasks", "ls", "-q") {
		if out, code := r.ctr("tasks", "rm", "-f", id); code == 124 {
			r.t.Errorf("tasks rm -f %s: %s", id, out)
		}
	}
	if left := r.lines("tasks", "ls", "-q"); len(left) > 0 {
		r.t.Errorf("tasks can't be removed: %s", left)
	}
	for _, kind := range []string{"containers", "images", "leases"} {
		for _, name := range r.lines(kind, "ls", "-q") {
			if out, code := r.ctr(kind, "rm", name); code != 0 && !strings.Contains(out, "not found") {
				r.t.Errorf("%s rm %s: exit %d\n%s", kind, name, code, out)
			}
		}
	}
	for _, ss := range []string{"overlayfs", "erofs"} {
		for range 20 { // children go before their parents
			var active []string
			for line := range strings.Lines(r.must("snapshots", "--snapshotter", ss, "ls")) {
				if f := strings.Fields(line); f[len(f)-1] == "Active" || f[len(f)-1] == "View" {
					active = append(active, f[0])
				}
			}
			if len(active) == 0 {
				break
			}
			for _, key := range active {
				r.ctr("snapshots", "--snapshotter", ss, "rm", key)
			}
		}
	}
	var left []string
	for range 100 {
		if left = r.leftovers(); len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Errorf("left after everything was removed:\n%s", strings.Join(left, "\n"))
}

func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, code := r.ctr(args...)
	if code != 0 {
		r.t.Errorf("ctr %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// leftovers are files, mounts and cgroups of things that are gone.
func (r *rig) leftovers() []string {
	var left []string
	for _, pattern := range []string{
		filepath.Join(r.root, "io.containerd.content.v1.content", "blobs", "*", "*"),
		filepath.Join(r.root, "io.containerd.content.v1.content", "ingest", "*"),
		filepath.Join(r.root, "io.containerd.snapshotter.v1.*", "snapshots", "*"),
		filepath.Join(r.root, "io.containerd.snapshotter.v1.*", "trash", "*"),
		r.path("state", "io.containerd.runtime.v2.task", "*", "*"),
		"/sys/fs/cgroup/default/" + r.tag + "*", "/sys/fs/cgroup/*/default/" + r.tag + "*",
	} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	for _, m := range r.mounts() {
		if !strings.HasSuffix(m, "/shims") { // the daemon's own
			left = append(left, "mount "+m)
		}
	}
	return left
}

// noShims wants no shim to outlive a daemon that has stopped without containers.
func (r *rig) noShims() {
	for range 50 {
		if len(r.shims()) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, pid := range r.shims() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		r.t.Errorf("shim %d is left: %q", pid, line)
	}
}

// killShim kills one shim, if there is any.
func (r *rig) killShim(choose func(int) int) bool {
	all := r.shims()
	if len(all) == 0 {
		return false
	}
	return syscall.Kill(all[choose(len(all))], syscall.SIGKILL) == nil
}
