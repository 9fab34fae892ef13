package runtime_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
	"github.com/orlop/orlop/runtime/cgroup"
	"golang.org/x/sys/unix"
)

// makerEnv tells the test binary to be the process that makes a container and dies.
const makerEnv = "ORLOP_TEST_MAKER"

func TestMain(m *testing.M) {
	if root := os.Getenv(makerEnv); root != "" {
		makeAndDie(root)
	}
	os.Exit(m.Run())
}

func makeAndDie(root string) {
	r, err := runtime.Open(root, runtime.Options{})
	if err != nil {
		panic(err)
	}
	for _, id := range []string{"made-created", "made-running"} {
		c, err := r.Create(context.Background(), runtime.CreateConfig{ID: id, Bundle: os.Getenv("BUNDLE")})
		if err != nil {
			panic(err)
		}
		if id == "made-running" {
			if err := c.Start(context.Background()); err != nil {
				panic(err)
			}
		}
	}
	unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

// TestMakerDies kills the process that made a created and a running container;
// another one starts, enters, waits for and deletes them.
func TestMakerDies(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done; exit 9")
	j, _ := json.Marshal(s)
	os.WriteFile(filepath.Join(bundle, "config.json"), j, 0o600)
	root := filepath.Dir(r.StateDir("x"))
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), makerEnv+"="+root, "BUNDLE="+bundle)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the maker did not die: %s", out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// In this order: both have one root, so the file that ends one ends the other if it runs.
	for _, want := range []runtime.Status{runtime.Running, runtime.Created} {
		id := "made-" + string(want)
		c, err := r.Load(id)
		if err != nil {
			t.Fatal(err)
		}
		if c.Status() != want {
			t.Errorf("%s is %s", id, c.Status())
		}
		if want == runtime.Created {
			if err := c.Start(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if out, code := inside(t, c, &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}); code != 0 {
			t.Errorf("exec in %s: %d %s", id, code, out)
		}
		if err := os.WriteFile(filepath.Join(bundle, "rootfs/tmp/go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := c.Wait(ctx); err != nil || !endedWith(st, 9) {
			t.Errorf("%s ended with %+v %v", id, st, err)
		}
		if err := c.Delete(ctx, false); err != nil {
			t.Error(err)
		}
		os.Remove(filepath.Join(bundle, "rootfs/tmp/go"))
	}
}

// TestMakerDiesInAHook kills the maker while the new process waits for its word: the
// process ends as well, and what is left can be discarded.
func TestMakerDiesInAHook(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("sleep", "600")
	s.Linux.CgroupsPath = "/orlop-test/" + testID(t)
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "kill -9 $PPID"}}}}
	j, _ := json.Marshal(s)
	os.WriteFile(filepath.Join(bundle, "config.json"), j, 0o600)
	cmd := exec.Command("/proc/self/exe")
	cmd.WaitDelay = 5 * time.Second // a child that goes on holds its output open
	cmd.Env = append(os.Environ(), makerEnv+"="+filepath.Dir(r.StateDir("x")), "BUNDLE="+bundle)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the maker did not die: %s", out)
	}
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Create(s.Linux.CgroupsPath)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	var pids []int
	for range 500 {
		if pids, err = g.Processes(); err != nil || len(pids) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil || len(pids) > 0 {
		t.Errorf("the new process waits for ever: %v %v", pids, err)
		g.KillAll()
	}
	r, err = runtime.Open(filepath.Dir(r.StateDir("x")), runtime.Options{}) // by files, as the maker
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Discard(t.Context(), "made-created", s.Linux.CgroupsPath); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.StateDir("made-created")); err == nil || host.Exists(s.Linux.CgroupsPath) {
		t.Error("something is left")
	}
}

// TestStaleState is a record whose process id now is somebody else's.
func TestStaleState(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	ctx := context.Background()
	c, err := r.Create(ctx, runtime.CreateConfig{ID: "stale", Bundle: bundle, Spec: newSpec("true")})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.StateDir("stale"), "state.json")
	b, _ := os.ReadFile(file)
	var rec map[string]any
	json.Unmarshal(b, &rec)
	c.Start(ctx)
	c.Wait(ctx)
	rec["pid"] = os.Getpid()
	b, _ = json.Marshal(rec)
	os.WriteFile(file, b, 0o600)
	r2, err := runtime.Open(filepath.Dir(r.StateDir("x")), runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	c2, err := r2.Load("stale")
	if err != nil {
		t.Fatal(err)
	}
	if c2.Status() != runtime.Stopped {
		t.Errorf("status %s: our own process was taken for the container's", c2.Status())
	}
	if err := c2.Kill(ctx, unix.SIGKILL, false); err == nil {
		t.Error("a foreign process was killed")
	}
	if err := c2.Delete(ctx, true); err != nil {
		t.Error(err)
	}
}

// TestNothingIsLeft counts descriptors, threads of waiting clones and files after
// many containers.
func TestNothingIsLeft(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	fds := func() int { l, _ := os.ReadDir("/proc/self/fd"); return len(l) }
	once := func() {
		ctx := context.Background()
		c := start(t, r, bundle, newSpec("sleep", "60"))
		inside(t, c, process("true"))
		if err := c.Delete(ctx, true); err != nil {
			t.Fatal(err)
		}
		c, err := r.Create(ctx, runtime.CreateConfig{ID: testID(t), Bundle: bundle, Spec: newSpec("true")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, true); err != nil { // never started
			t.Fatal(err)
		}
		r.Create(ctx, runtime.CreateConfig{ID: testID(t), Bundle: bundle, Spec: newSpec("/nothing")})
	}
	once()
	before := fds()
	for range 30 {
		once()
	}
	if after := fds(); after > before+2 {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if left, _ := os.ReadDir(filepath.Dir(r.StateDir("x"))); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + testID(t)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzValidate(f *testing.F) {
	j, _ := json.Marshal(runtime.ExampleSpec())
	f.Add(j)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &specs.Spec{}
		if json.Unmarshal(b, s) == nil {
			runtime.Validate(s)
		}
	})
}
