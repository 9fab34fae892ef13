package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually asks until the answer holds want.
func (r *Rig) eventually(want string, ask func() string) {
	r.t.Helper()
	var got string
	for range 100 {
		if got = ask(); strings.Contains(got, want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.t.Fatalf("after five seconds there still is no %q:\n%s", want, got)
}

func (r *Rig) killShims() {
	r.t.Helper()
	all := r.shims()
	if len(all) == 0 {
		r.t.Fatal("there is no shim to kill")
	}
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Containers go on when their shim is killed: another one adopts them, those that
// wait are told the right exit code, and nothing is lost that ended meanwhile.
func TestShimDies(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.Ctr("run", "-d", r.Image, "web", "/bin/sleep", "600")
	waited := make(chan int, 1)
	go func() {
		_, code := r.Run("", "ctr", "-a", r.Socket(), "run", r.Image, "ends", "/bin/sh", "-c", "sleep 2; exit 7")
		waited <- code
	}()
	r.eventually("ends", func() string { return r.Ctr("t", "ls") })
	before := r.Ctr("t", "ls")
	r.killShims()
	r.eventually("still here", func() string {
		out, _ := r.Run("", "ctr", "-a", r.Socket(), "t", "exec", "--exec-id", fmt.Sprint(time.Now().UnixNano()), "web", "/bin/echo", "still here")
		return out
	})
	if code := <-waited; code != 7 {
		t.Fatalf("the client that waited got exit code %d, want 7", code)
	}
	for _, line := range strings.Split(before, "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "web" && !strings.Contains(r.Ctr("t", "ls"), f[1]) {
			t.Fatalf("the process is another one: before\n%s\nnow\n%s", before, r.Ctr("t", "ls"))
		}
	}
	r.Ctr("t", "pause", "web")
	expect(t, r.Ctr("t", "ls"), "PAUSED")
	r.killShims()
	r.eventually("PAUSED", func() string { return r.Ctr("t", "ls") })
	r.Ctr("t", "resume", "web")
	r.Ctr("t", "kill", "-s", "KILL", "web")
	r.eventually("STOPPED", func() string { return r.Ctr("t", "ls") })
	expect(t, r.Ctr("t", "rm", "web"), "exit code 137")
}

// With daemon and shim killed together, containers live on and are adopted at the
// next start; of one that ended while a daemon without shims watched, the code is known.
func TestDaemonAndShimDie(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.Ctr("run", "-d", r.Image, "web", "/bin/sleep", "600")
	r.Ctr("run", "-d", r.Image, "done", "/bin/sh", "-c", "exit 3")
	r.eventually("STOPPED", func() string { return r.Ctr("t", "ls") })
	r.Stop(syscall.SIGKILL)
	r.killShims()
	r.Start()
	expect(t, r.Ctr("t", "ls"), "RUNNING")
	expect(t, r.Ctr("t", "exec", "--exec-id", "a", "web", "/bin/echo", "still here"), "still here")
	out, code := r.Run("", "ctr", "-a", r.Socket(), "t", "rm", "done")
	if code != 0 || !strings.Contains(out, "exit code 3") {
		t.Fatalf("exit %d\n%s", code, out)
	}
}

// Many containers share a shim, and a shim that is full is followed by another.
func TestShimsAreShared(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	for i := range 6 {
		r.Ctr("run", "-d", r.Image, fmt.Sprintf("c%d", i), "/bin/sleep", "600")
	}
	if n := len(r.shims()); n != 1 {
		t.Fatalf("%d shims for six containers, want one", n)
	}
	r.Stop(syscall.SIGTERM)
	r.configure("version = 4\n[plugins.'io.containerd.runtime.v2.task']\ncontainers_per_shim = 2\n")
	r.Start()
	for i := range 5 {
		r.Ctr("run", "-d", r.Image, fmt.Sprintf("d%d", i), "/bin/sleep", "600")
	}
	expect(t, r.Ctr("t", "ls"), "c5")
	if n := len(r.shims()); n < 4 || n > 5 {
		t.Fatalf("%d shims for 6 + 5 containers, two to a shim since the restart; want four or five", n)
	}
}

// Other runtimes are one option away: by a runtime's name, and by runc's options.
func TestOtherRuntimes(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	for _, c := range []struct{ name, flag, value string }{
		{"runc", "--runtime", "io.orlop.runc.v1"},
		{"crun", "--runc-binary", r.hybridCrun()},
		{"ours", "--runc-binary", filepath.Join(r.bin, "orlop-runtime")},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, code := r.Run("", "ctr", "-a", r.Socket(), "run", "--rm", c.flag, c.value, r.Image, "once", "/bin/sh", "-c", "echo from inside; exit 4")
			if code != 4 || !strings.Contains(out, "from inside") {
				t.Fatalf("exit %d, want 4\n%s", code, out)
			}
			r.Ctr("run", "-d", c.flag, c.value, r.Image, "long", "/bin/sleep", "600")
			if _, code := r.Run("", "ctr", "-a", r.Socket(), "t", "exec", "--exec-id", "e", "long", "/bin/sh", "-c", "exit 3"); code != 3 {
				t.Fatalf("exec's exit code %d, want 3", code)
			}
			expect(t, r.Ctr("t", "metrics", "long"), "memory")
			r.Ctr("t", "kill", "-s", "KILL", "long")
			r.eventually("STOPPED", func() string { return r.Ctr("t", "ls") })
			r.Ctr("c", "rm", "long")
		})
	}
}

// hybridCrun makes a crun that works beside an empty version 2 hierarchy, which
// Debian's refuses: it calls it where that hierarchy isn't mounted.
func (r *Rig) hybridCrun() string {
	path := r.path("crun")
	script := "#!/bin/sh\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"' crun \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// An out-of-memory kill is told as an event, with the exit code of a killed process.
func TestOutOfMemory(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	events := make(chan string, 1)
	go func() {
		out, _ := r.Run("", "timeout", "6", "ctr", "-a", r.Socket(), "events")
		events <- out
	}()
	time.Sleep(300 * time.Millisecond)
	_, code := r.Run("", "ctr", "-a", r.Socket(), "run", "--rm", "--memory-limit", "8388608", r.Image, "eats", "/bin/sh", "-c",
		"x=$(dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' x); echo ${#x}")
	if code != 137 {
		t.Fatalf("exit code %d, want 137", code)
	}
	expect(t, <-events, "/tasks/oom")
}
