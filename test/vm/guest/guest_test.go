// Package guest holds the tests that run in the virtual machine of test/vm: the
// command line of the runtime against real control groups and a real systemd.
package guest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/runtime"
)

// patience bounds every wait; it is long as the processor is emulated.
const patience = 30 * time.Second

// unified tells the version of control groups.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// drivers runs a test with both makers of groups.
func drivers(t *testing.T, f func(t *testing.T, c *box)) {
	if os.Getenv("ORLOP_VM") == "" {
		t.Skip("runs in the machine of test/vm")
	}
	for _, driver := range []string{"cgroupfs", "systemd"} {
		t.Run(driver, func(t *testing.T) {
			name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
			f(t, newBox(t, name, driver == "systemd"))
		})
	}
}

// box is one container.
type box struct {
	t       *testing.T
	id      string
	systemd bool
	dir     string
	root    string
	spec    *specs.Spec
}

func newBox(t *testing.T, id string, systemd bool) *box {
	b := &box{t: t, id: id, systemd: systemd, dir: t.TempDir(), root: "/run/orlop-guest"}
	bin := filepath.Join(b.dir, "rootfs/bin")
	for _, d := range []string{"bin", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "cat", "head", "tail", "dd", "mknod", "mkdir", "echo", "true", "wc"} {
		os.Link(filepath.Join(bin, "busybox"), filepath.Join(bin, name))
	}
	b.spec = runtime.ExampleSpec()
	b.spec.Process.Terminal = false
	b.spec.Root.Readonly = false
	b.spec.Linux.CgroupsPath = "/orlop-guest/" + id
	if systemd {
		b.spec.Linux.CgroupsPath = "orlop-guest.slice:orlop:" + id
	}
	t.Cleanup(func() {
		b.call("delete", "--force", id)
		if unit := b.show("LoadState", "ActiveState"); systemd && !strings.Contains(unit, "inactive") {
			t.Errorf("the unit is left: %s", unit)
		}
		left, _ := filepath.Glob("/sys/fs/cgroup/*/*/*" + id + "*")
		more, _ := filepath.Glob("/sys/fs/cgroup/*/*" + id + "*")
		if left = append(left, more...); len(left) > 0 {
			t.Errorf("groups are left: %v", left)
		}
	})
	return b
}

// call runs orlop-runtime. Its output goes to a file, as a container keeps it open.
func (b *box) call(args ...string) (string, error) {
	all := []string{"--root", b.root}
	if b.systemd {
		all = append(all, "--systemd-cgroup")
	}
	cmd := exec.Command("orlop-runtime", append(all, args...)...)
	out, err := os.CreateTemp(b.dir, "out")
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	return string(text), err
}

func (b *box) must(args ...string) string {
	b.t.Helper()
	out, err := b.call(args...)
	if err != nil {
		b.t.Fatalf("orlop-runtime %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// start makes and starts the container with a program.
func (b *box) start(args ...string) {
	b.t.Helper()
	b.create(args...)
	b.must("start", b.id)
}

func (b *box) create(args ...string) {
	b.t.Helper()
	b.spec.Process.Args = args
	j, err := json.Marshal(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), j, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.must("create", "--bundle", b.dir, b.id)
}

// state is the container's state.
func (b *box) state() (s specs.State) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.must("state", b.id)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// file reads a file of the container's group: controller and name on version 1.
func (b *box) file(v2, controller, v1 string) string {
	b.t.Helper()
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", b.state().Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	mount, name := "/sys/fs/cgroup", v2
	path := ""
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case unified() && f[0] == "0":
			path = f[2]
		case !unified() && strings.Contains(","+f[1]+",", ","+controller+","):
			path, name = f[2], v1
			mount = filepath.Join("/sys/fs/cgroup", controller)
		}
	}
	if path == "" || !strings.Contains(path, b.id) {
		b.t.Fatalf("the process is in a strange group: %s", own)
	}
	text, err := os.ReadFile(filepath.Join(mount, path, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// show asks systemd for properties of the container's unit.
func (b *box) show(names ...string) string {
	out, _ := exec.Command("systemctl", "show", "orlop-"+b.id+".scope", "-p", strings.Join(names, ",")).Output()
	return string(out)
}

// eventually waits for a condition.
func (b *box) eventually(what string, f func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("never: %s", what)
		}
	}
}

// events runs the events command and sends its lines.
func (b *box) events() <-chan string {
	all := []string{"--root", b.root, "events", "--interval", "1h", b.id}
	cmd := exec.Command("orlop-runtime", all...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

func resources(r specs.LinuxResources) string {
	j, _ := json.Marshal(r)
	return string(bytes.TrimSpace(j))
}

func p[T any](v T) *T { return &v }
