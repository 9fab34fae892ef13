package runtime_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

// busybox is Debian's static one, which the tests use as their image.
const busybox = "/usr/bin/busybox"

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat(busybox); err != nil {
		if _, err := os.Stat("/bin/busybox"); err != nil {
			t.Skip("needs busybox-static")
		}
	}
}

// newBundle makes a bundle with a small root file system.
func newBundle(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(dir, 0o755)
	os.Chmod(root, 0o755)
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "cat", "ls", "id", "sleep", "echo", "mount", "tty", "stat", "grep", "kill", "hostname", "touch", "ln", "wc", "env", "pwd", "ps", "dd", "head", "tr", "mknod", "mkdir", "readlink", "sort"} {
		os.Link(filepath.Join(root, "bin/busybox"), filepath.Join(root, "bin", name))
	}
	os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644)
	return dir
}

func newSpec(args ...string) *specs.Spec {
	s := runtime.ExampleSpec()
	s.Process.Terminal = false
	s.Process.Args = args
	s.Root.Readonly = false
	return s
}

func openRuntime(t testing.TB) *runtime.Runtime {
	t.Helper()
	needRoot(t)
	dir, err := os.MkdirTemp("/run", "orlop-test-")
	if err != nil {
		t.Fatal(err)
	}
	// test/vm runs these tests with both drivers.
	systemd := os.Getenv("ORLOP_SYSTEMD_CGROUP") != ""
	r, err := runtime.Open(dir, runtime.Options{SystemdCgroup: systemd, Warn: func(id, m string) { t.Logf("%s: %s", id, m) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, _ := r.List()
		for _, c := range list {
			c.Delete(context.Background(), true)
		}
		r.Close()
		os.RemoveAll(dir)
	})
	return r
}

func testID(t testing.TB) string {
	return strings.NewReplacer("/", "-", "#", "-", "=", "-").Replace("orlop-" + t.Name())
}

// runSpec runs a container to its end and returns what it wrote and its exit code.
func runSpec(t testing.TB, r *runtime.Runtime, bundle string, s *specs.Spec) (string, int) {
	t.Helper()
	return runSpecAs(t, r, bundle, s, testID(t))
}

func runSpecAs(t testing.TB, r *runtime.Runtime, bundle string, s *specs.Spec, id string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c, err := r.Create(ctx, runtime.CreateConfig{ID: id, Bundle: bundle, Spec: s, Stdout: out, Stderr: out})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Delete(ctx, true)
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	st, err := c.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(out.Name())
	return string(b), st.Code
}

func TestRun(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	out, code := runSpec(t, r, bundle, newSpec("sh", "-c", "echo hello $$; hostname; mount; ls -la /dev /proc/self/fd; id; cat /proc/self/status | grep Cap; exit 7"))
	t.Log(out)
	if code != 7 || !strings.HasPrefix(out, "hello 1\norlop\n") {
		t.Errorf("exit %d: %s", code, out)
	}
	if b, _ := exec.Command("findmnt", "-l").Output(); strings.Contains(string(b), bundle) {
		t.Errorf("mounts are left: %s", b)
	}
}

// endedWith compares the exit code of a process that may not be our child: kernels
// before 6.15 tell nobody but the parent.
func endedWith(st runtime.ExitStatus, code int) bool {
	if st.Known {
		return st.Code == code
	}
	var u unix.Utsname
	var major, minor int
	unix.Uname(&u)
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return st.Code == 255 && (major < 6 || major == 6 && minor < 15)
}
