package runtime_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime"
	"github.com/orlop/orlop/runtime/cgroup"
)

// oddEnv names the case for the test program that runs on the odd host.
const oddEnv = "ORLOP_ODD_HOST"

// cgroupMounts lists the mount points of control groups.
const cgroupMounts = `awk '/ - cgroup/ {print $5}' /proc/self/mountinfo`

// oddHosts are what to do before the test, in a mount namespace of its own, and
// what the runtime then warns of.
var oddHosts = []struct{ name, setup, warning string }{
	{"no groups", "umount -R /sys/fs/cgroup", "none are mounted"},
	{"read-only groups", "for m in $(" + cgroupMounts + "); do mount -o remount,bind,ro $m || exit 1; done", "read-only file system"},
	{"no controllers", "for m in $(" + cgroupMounts + "); do case $m in */systemd|*/unified) ;; *) umount $m || exit 1;; esac; done", "devices"},
}

// TestOddHosts makes hosts that lack what others have, and runs a container there.
func TestOddHosts(t *testing.T) {
	needRoot(t)
	if name := os.Getenv(oddEnv); name != "" {
		t.Skip("this is one of them")
	}
	for _, h := range oddHosts {
		t.Run(h.name, func(t *testing.T) {
			if st := (unix.Statfs_t{}); h.name == "no controllers" && unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
				t.Skip("version 2 has all controllers in one mount")
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", h.setup+"; exec \"$0\" -test.v -test.run '^TestOnOddHost$'", exe)
			cmd.Env = append(os.Environ(), oddEnv+"="+h.name, "ORLOP_SYSTEMD_CGROUP=")
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestOnOddHost is the program that TestOddHosts starts.
func TestOnOddHost(t *testing.T) {
	name := os.Getenv(oddEnv)
	if name == "" {
		t.Skip("started by TestOddHosts")
	}
	var warnings []string
	dir, err := os.MkdirTemp("/run", "orlop-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := runtime.Open(dir, runtime.Options{Warn: func(_, m string) { warnings = append(warnings, m) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	bundle := newBundle(t)
	works(t, r, bundle, newSpec("sh", "-c", "sleep 100 & sleep 100"))
	i := slices.IndexFunc(oddHosts, func(h struct{ name, setup, warning string }) bool { return h.name == name })
	if !strings.Contains(strings.Join(warnings, "\n"), oddHosts[i].warning) {
		t.Errorf("not warned of %q: %q", oddHosts[i].warning, warnings)
	}
	// What was asked for and cannot be had is an error, and leaves nothing.
	s, limit := newSpec("true"), int64(64<<20)
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	_, err = r.Create(context.Background(), runtime.CreateConfig{ID: "limited", Bundle: bundle, Spec: s})
	if !errors.Is(err, cgroup.ErrController) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("a limit of memory: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// works takes a container of two processes through its life.
func works(t *testing.T, r *runtime.Runtime, bundle string, s *specs.Spec) {
	t.Helper()
	c := start(t, r, bundle, s)
	if out, code := inside(t, c, &specs.Process{Args: []string{"/bin/echo", "here"}, Cwd: "/"}); code != 0 || out != "here\n" {
		t.Errorf("exec: %d %q", code, out)
	}
	// The first process makes the second when it likes.
	var pids []int
	for range 200 {
		var err error
		if pids, err = c.Pids(); err != nil {
			t.Fatal("processes:", err)
		}
		if len(pids) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(pids) != 2 || !slices.Contains(pids, c.Pid()) {
		t.Errorf("processes: %v", pids)
	}
	if _, err := c.Stats(); err != nil {
		t.Error("statistics:", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Kill(ctx, unix.SIGKILL, true); err != nil {
		t.Error("kill:", err)
	}
	if _, err := c.Wait(ctx); err != nil {
		t.Error("wait:", err)
	}
	if err := c.Delete(ctx, false); err != nil {
		t.Error("delete:", err)
	}
}

// TestWithoutSysResource raises limits that only the capability lets one raise:
// what is inherited stays, with a warning.
func TestWithoutSysResource(t *testing.T) {
	if os.Getenv(oddEnv) == "sys_resource" {
		withoutSysResource(t)
		return
	}
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource",
		"sh", "-c", "ulimit -n 512; exec \"$0\" -test.v -test.run '^TestWithoutSysResource$'", exe)
	cmd.Env = append(os.Environ(), oddEnv+"=sys_resource")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func withoutSysResource(t *testing.T) {
	dir, err := os.MkdirTemp("/run", "orlop-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var warnings []string
	r, err := runtime.Open(dir, runtime.Options{Warn: func(_, m string) { warnings = append(warnings, m) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, score := newSpec("sh", "-c", "ulimit -n"), -900
	s.Process.OOMScoreAdj = &score
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 4096, Hard: 4096}}
	if out, code := runSpec(t, r, newBundle(t), s); code != 0 || out != "512\n" {
		t.Errorf("exit %d: %s", code, out)
	}
	text := strings.Join(warnings, "\n")
	for _, want := range []string{"RLIMIT_NOFILE 4096:4096", "oom_score_adj -900"} {
		if !strings.Contains(text, want) {
			t.Errorf("not warned of %q: %q", want, warnings)
		}
	}
}

// TestNoSystemd asks for systemd where there is none.
func TestNoSystemd(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd runs here")
	}
	dir, err := os.MkdirTemp("/run", "orlop-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := runtime.Open(dir, runtime.Options{SystemdCgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Create(context.Background(), runtime.CreateConfig{ID: "alone", Bundle: newBundle(t), Spec: newSpec("true")})
	if !errors.Is(err, runtime.ErrUnsupported) || !errors.Is(err, cgroup.ErrNoSystemd) || !strings.Contains(err.Error(), "systemd is not running") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
