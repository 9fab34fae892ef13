package security

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

// applets are the names under which the tests' busybox is found.
var applets = []string{"sh", "cat", "ls", "id", "sleep", "mount", "umount", "unshare", "grep", "readlink", "pwd", "mkdir", "ln", "stat", "dd", "echo", "true", "head", "kill", "chroot", "touch", "wc", "tr", "test"}

// cell is a runtime with a bundle to attack it from.
type cell struct {
	r      *runtime.Runtime
	bundle string
}

func newCell(t *testing.T) *cell {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o755)
	for _, d := range []string{"bin", "etc", "tmp"} {
		os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755)
	}
	if err := os.WriteFile(filepath.Join(dir, "rootfs/bin/busybox"), box, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range applets {
		os.Link(filepath.Join(dir, "rootfs/bin/busybox"), filepath.Join(dir, "rootfs/bin", a))
	}
	state, err := os.MkdirTemp("/run", "orlop-security-")
	if err != nil {
		t.Fatal(err)
	}
	r, err := runtime.Open(state, runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		list, _ := r.List()
		for _, c := range list {
			c.Delete(context.Background(), true)
		}
		r.Close()
		os.RemoveAll(state)
	})
	return &cell{r, dir}
}

func (c *cell) root(elem ...string) string {
	return filepath.Join(append([]string{c.bundle, "rootfs"}, elem...)...)
}

func spec(script string) *specs.Spec {
	s := runtime.ExampleSpec()
	s.Process.Terminal = false
	s.Process.Args = []string{"sh", "-c", script}
	s.Root.Readonly = false
	return s
}

// run runs a container to its end; err is that of creation or start.
func (c *cell) run(t *testing.T, s *specs.Spec) (out string, code int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	f, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k, err := c.r.Create(ctx, runtime.CreateConfig{ID: "attack-" + strings.ReplaceAll(t.Name(), "/", "-"), Bundle: c.bundle, Spec: s, Stdout: f, Stderr: f})
	if err != nil {
		return "", 0, err
	}
	defer k.Delete(ctx, true)
	if err := k.Start(ctx); err != nil {
		return "", 0, err
	}
	st, err := k.Wait(ctx)
	b, _ := os.ReadFile(f.Name())
	return string(b), st.Code, err
}

// start leaves a container running.
func (c *cell) start(t *testing.T, s *specs.Spec) *runtime.Container {
	t.Helper()
	k, err := c.r.Create(context.Background(), runtime.CreateConfig{ID: "attack-" + strings.ReplaceAll(t.Name(), "/", "-"), Bundle: c.bundle, Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Delete(context.Background(), true) })
	if err := k.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return k
}

func execIn(t *testing.T, k *runtime.Container, p *specs.Process) (string, int, error) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	proc, err := k.Exec(context.Background(), runtime.ExecConfig{Process: p, Stdout: out, Stderr: out})
	out.Close()
	if err != nil {
		return "", 0, err
	}
	defer proc.Close()
	b, _ := io.ReadAll(in)
	st, err := proc.Wait(context.Background())
	return string(b), st.Code, err
}

// CVE-2019-5736: a program in the image is a link to /proc/self/exe. Whatever
// runs then must be the container's own file, never a binary of the host.
func TestRuntimeBinaryIsNeverInside(t *testing.T) {
	c := newCell(t)
	if err := os.Symlink("/proc/self/exe", c.root("bin/trap")); err != nil {
		t.Fatal(err)
	}
	s := spec("")
	s.Process.Args = []string{"/bin/trap"}
	out, code, err := c.run(t, s)
	if err == nil {
		t.Errorf("a link to /proc/self/exe was executed: %q, exit %d", out, code)
	}
	k := c.start(t, spec("sleep 100"))
	p := *s.Process
	if out, code, err := execIn(t, k, &p); err == nil {
		self, _ := os.Readlink("/proc/self/exe")
		t.Errorf("exec ran %s by a link to /proc/self/exe: %q, exit %d", self, out, code)
	}
}

// CVE-2024-21626: the working directory is a descriptor of the host.
func TestRuntimeWorkingDirectoryByDescriptor(t *testing.T) {
	c := newCell(t)
	host, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	// One more without close-on-exec, as a careless embedder would leave it.
	loose, err := unix.Open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(loose)
	k := c.start(t, spec("sleep 100"))
	for fd := range 64 {
		for _, dir := range []string{"/proc/self/fd/" + itoa(fd), "/proc/self/fd/" + itoa(fd) + "/../.."} {
			s := spec("ls -di . .. ../.. ../../..; ls ../../../..; cat etc/shadow ../etc/shadow ../../etc/shadow")
			s.Process.Cwd = dir
			if out, code, err := c.run(t, s); err == nil && strings.Contains(out, "root:") {
				t.Errorf("run in %s: exit %d: %s", dir, code, out)
			} else if err == nil {
				t.Errorf("run in %s was allowed: %s", dir, out)
			}
			p := *s.Process
			if out, _, err := execIn(t, k, &p); err == nil {
				t.Errorf("exec in %s was allowed: %s", dir, out)
			}
		}
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TestRuntimeNoDescriptorLeaks looks from inside at what is open.
func TestRuntimeNoDescriptorLeaks(t *testing.T) {
	c := newCell(t)
	loose, err := unix.Open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(loose)
	const look = "for f in /proc/self/fd/*; do readlink $f; done"
	out, _, err := c.run(t, spec(look))
	if err != nil {
		t.Fatal(err)
	}
	k := c.start(t, spec("sleep 100"))
	out2, _, err := execIn(t, k, spec(look).Process)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(out+out2), "\n") {
		own := line == "/dev/null" || strings.HasPrefix(line, "pipe:") || strings.Contains(line, "/out") || line == ""
		if !own {
			t.Errorf("open inside: %q", line)
		}
	}
}

// CVE-2025-31133: /dev/null of the image is a link, so that a mask would show
// the host's file; CVE-2019-19921: /proc of the image is a link.
func TestRuntimeMasksAndLinks(t *testing.T) {
	c := newCell(t)
	s := spec("cat /proc/keys | wc -c; stat -c %t:%T /proc/keys; echo core > /proc/sys/kernel/core_pattern && echo WROTE; echo b > /proc/sysrq-trigger && echo WROTE; ls /sys/firmware | wc -l")
	s.Mounts = append(s.Mounts[:1:1], s.Mounts[5:]...) // no tmpfs at /dev: the image's own directory
	os.MkdirAll(c.root("dev"), 0o755)
	os.Symlink("/proc/sys/kernel/core_pattern", c.root("dev/null"))
	before, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	out, code, err := c.run(t, s)
	after, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	if string(before) != string(after) {
		os.WriteFile("/proc/sys/kernel/core_pattern", before, 0)
		t.Fatalf("core_pattern became %q", after)
	}
	if err == nil && (strings.Contains(out, "WROTE") || !strings.HasPrefix(out, "0\n1:3\n")) {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, name := range []string{"proc", "sys"} {
		c := newCell(t)
		os.MkdirAll(c.root("elsewhere"), 0o755)
		if err := os.Symlink("elsewhere", c.root(name)); err != nil {
			t.Fatal(err)
		}
		if out, _, err := c.run(t, spec("mount")); err == nil {
			t.Errorf("/%s is a link and yet the container ran: %s", name, out)
		}
	}
}

// CVE-2025-52565: the image's /dev/pts or /dev/console leads elsewhere.
func TestRuntimeConsoleIsATerminal(t *testing.T) {
	c := newCell(t)
	s := spec("true")
	s.Process.Terminal = true
	s.Mounts = append(s.Mounts[:1:1], s.Mounts[5:]...) // neither /dev nor /dev/pts are ours
	os.MkdirAll(c.root("dev/pts"), 0o755)
	os.Symlink("/proc/sysrq-trigger", c.root("dev/pts/ptmx"))
	os.Symlink("/proc/sys/kernel/core_pattern", c.root("dev/console"))
	if _, _, err := c.run(t, s); err == nil {
		t.Error("a terminal was made of a link to /proc")
	}
}
