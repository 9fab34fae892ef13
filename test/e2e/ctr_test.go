package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func expect(t *testing.T, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Fatalf("got\n%s\nwant it to hold %q", got, want)
	}
}

// Debian's ctr, which knows nothing of Orlop, pulls and runs by every snapshotter.
func TestCtrRuns(t *testing.T) {
	r := New(t)
	for _, ss := range []string{"overlayfs", "native", "erofs"} {
		t.Run(ss, func(t *testing.T) {
			r.Ctr("image", "pull", "--plain-http", "--snapshotter", ss, r.Image)
			out := r.Ctr("run", "--rm", "--snapshotter", ss, r.Image, "one-"+ss, "/bin/sh", "-c", "cat /hello; ls /etc; id")
			expect(t, out, "hello from the second layer")
			expect(t, out, "uid=0")
			if strings.Contains(out, "doomed") {
				t.Fatalf("a file that a layer deletes is there:\n%s", out)
			}
			_, code := r.Run("", "ctr", "-a", r.Socket(), "run", "--rm", "--snapshotter", ss, r.Image, "two-"+ss, "/bin/sh", "-c", "exit 7")
			if code != 7 {
				t.Fatalf("exit code %d, want 7", code)
			}
		})
	}
}

func TestCtrTasks(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.Ctr("run", "-d", r.Image, "web", "/bin/sleep", "600")
	expect(t, r.Ctr("t", "ls"), "RUNNING")
	expect(t, r.Ctr("t", "exec", "--exec-id", "a", "web", "/bin/echo", "from exec"), "from exec")
	out, code := r.Run("piped in", "ctr", "-a", r.Socket(), "t", "exec", "--exec-id", "b", "web", "/bin/cat")
	if code != 0 || !strings.Contains(out, "piped in") {
		t.Fatalf("stdin through exec: exit %d, %q", code, out)
	}
	if _, code := r.Run("", "ctr", "-a", r.Socket(), "t", "exec", "--exec-id", "c", "web", "/bin/sh", "-c", "exit 3"); code != 3 {
		t.Fatalf("exec's exit code %d, want 3", code)
	}
	r.Ctr("t", "pause", "web")
	expect(t, r.Ctr("t", "ls"), "PAUSED")
	r.Ctr("t", "resume", "web")
	expect(t, r.Ctr("t", "metrics", "web"), "memory")
	expect(t, r.Ctr("t", "ps", "web"), "PID")
	out, code = r.Run("", "script", "-qec", "ctr -a "+r.Socket()+" run --rm -t "+r.Image+" tty /bin/sh -c 'test -t 1 && echo a terminal'", "/dev/null")
	if code != 0 {
		t.Fatalf("run -t: exit %d\n%s", code, out)
	}
	expect(t, out, "a terminal")
	r.Ctr("t", "kill", "-s", "KILL", "web")
	time.Sleep(300 * time.Millisecond)
	expect(t, r.Ctr("t", "ls"), "STOPPED")
	expect(t, r.Ctr("t", "rm", "web"), "exit code 137")
	r.Ctr("c", "rm", "web")
}

// Containers outlive the daemon, however it ends, and are found again.
func TestDaemonComesBack(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.Ctr("run", "-d", r.Image, "web", "/bin/sleep", "600")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		r.Stop(sig)
		r.Start()
		expect(t, r.Ctr("t", "ls"), "RUNNING")
		expect(t, r.Ctr("t", "exec", "--exec-id", sig.String(), "web", "/bin/echo", "still here"), "still here")
	}
}

// A second daemon on the same root is refused; the first goes on.
func TestSecondDaemonIsRefused(t *testing.T) {
	r := New(t)
	out, code := r.Run("", filepath.Join(r.bin, "orlopd"), "--root", r.path("root"), "--state", r.path("state2"))
	if code != 1 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	expect(t, out, "another daemon runs on the same root")
	r.Ctr("version")
}

// What nothing refers to is gone soon, bytes and all.
func TestRemovedImageIsCollected(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	r.Ctr("image", "rm", "--sync", r.Image)
	for range 50 {
		blobs, _ := filepath.Glob(r.path("root", "io.containerd.content.v1.content", "blobs", "sha256", "*"))
		snaps, _ := filepath.Glob(r.path("root", "io.containerd.snapshotter.v1.overlayfs", "snapshots", "*"))
		if len(blobs)+len(snaps) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("blobs or snapshots of a removed image are still there")
}

func TestBadInput(t *testing.T) {
	r := New(t)
	r.Ctr("image", "pull", "--plain-http", r.Image)
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"missing command", "no such file or directory", []string{"run", "--rm", r.Image, "x1", "/nonexistent"}},
		{"not executable", "permission denied", []string{"run", "--rm", r.Image, "x2", "/hello"}},
		{"missing image", "not found", []string{"run", "--rm", "example.test/none:1", "x3", "/bin/true"}},
		{"bad identifier", "identifier", []string{"run", "--rm", r.Image, "../../x", "/bin/true"}},
		{"unknown runtime", "no program containerd-shim-none-v9", []string{"run", "--rm", "--runtime", "io.containerd.none.v9", r.Image, "x4", "/bin/true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, code := r.Run("", "ctr", append([]string{"-a", r.Socket()}, c.args...)...)
			if code == 0 {
				t.Fatalf("it succeeded:\n%s", out)
			}
			expect(t, out, c.want)
		})
	}
	left, _ := filepath.Glob(r.path("state", "io.containerd.runtime.v2.task", "*", "*"))
	if len(left) > 0 {
		t.Fatalf("bundles are left: %v", left)
	}
}
