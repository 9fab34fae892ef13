package runtime_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/orlop/orlop/runtime"
	"github.com/orlop/orlop/runtime/cgroup"
)

// TestDiscard removes what a maker left that died after it had made the control
// group and put a process into it, and before it recorded the container.
func TestDiscard(t *testing.T) {
	if os.Getenv("ORLOP_SYSTEMD_CGROUP") != "" {
		t.Skip("makes the group itself")
	}
	r, id := openRuntime(t), testID(t)
	path := "/orlop-test/" + id
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	defer sleeper.Process.Kill()
	dirs := []string{g.V2}
	for _, v := range g.V1 {
		dirs = append(dirs, v.Dir)
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(sleeper.Process.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Discard(t.Context(), id, path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dirs[len(dirs)-1]); err != nil {
		t.Fatal("the control group of an id that isn't there was touched:", err)
	}
	mkdir := func() {
		if err := os.Mkdir(r.StateDir(id), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	mkdir()
	if err := r.Discard(t.Context(), id, path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dirs[len(dirs)-1]); err != nil {
		t.Fatal("a control group that was there before was removed:", err)
	}
	mkdir()
	if err := os.WriteFile(filepath.Join(r.StateDir(id), "fresh"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Discard(t.Context(), id, path); err != nil {
		t.Fatal(err)
	}
	<-ended // killed: it would sleep for ten minutes
	for _, dir := range append(dirs, r.StateDir(id)) {
		if _, err := os.Stat(dir); dir != "" && err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// Nobody is made who would stand still at once, with us waiting for him.
func TestFrozenGroup(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("sleep", "60")
	s.Linux.CgroupsPath = "/orlop-test/" + testID(t)
	c := start(t, r, bundle, s)
	if err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.Linux.CgroupsPath, s.Linux.CgroupsPath + "/below"} {
		other := newSpec("true")
		other.Linux.CgroupsPath = path
		_, err := r.Create(t.Context(), runtime.CreateConfig{ID: testID(t) + "-2", Bundle: bundle, Spec: other})
		if !errors.Is(err, runtime.ErrState) {
			t.Fatalf("%s: %v", path, err)
		}
		if _, err := os.Stat(r.StateDir(testID(t) + "-2")); err == nil {
			t.Errorf("%s: its state is left", path)
		}
	}
	if err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(c.Pid())); err != nil {
		t.Error("the group's own container was ended:", err)
	}
}
