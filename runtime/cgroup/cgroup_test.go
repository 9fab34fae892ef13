package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 40: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
}

func TestSettingsV2(t *testing.T) {
	limit, sum, quota := int64(100), int64(150), int64(5000)
	got := settingsV2(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &sum}, CPU: &specs.LinuxCPU{Quota: &quota}})
	want := map[string]string{"memory.max": "100", "memory.swap.max": "50", "cpu.max": "5000 100000"}
	for _, s := range got {
		if want[s.file] != s.value {
			t.Errorf("%s = %s, want %s", s.file, s.value, want[s.file])
		}
		delete(want, s.file)
	}
	if len(want) > 0 {
		t.Errorf("not set: %v", want)
	}
}

func TestDetect(t *testing.T) {
	h := &Host{}
	own := map[string]string{"": "/me", "cpu": "/a", "cpuacct": "/a", "name=systemd": "/s"}
	h.addMount("30 1 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct", own)
	h.addMount("31 1 0:1 / /elsewhere rw - cgroup cgroup rw,cpu,cpuacct", own)
	h.addMount("32 1 0:1 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd", own)
	h.addMount("33 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", own)
	h.addMount("nonsense", own)
	if len(h.V1) != 2 || h.V1[0].Own != "/a" || h.V2 != "/sys/fs/cgroup/unified" || h.Unified() {
		t.Errorf("%+v", h)
	}
}

// newGroup makes a group of the host's real hierarchies.
func newGroup(t *testing.T) *Group {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Create("/orlop-" + t.Name() + "/inner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Delete(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/orlop-" + t.Name()); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return g
}

func TestMissingControllerIsAnError(t *testing.T) {
	g := newGroup(t)
	g = &Group{Path: g.Path} // the host has none
	limit, shares := int64(1<<30), uint64(512)
	if _, err := g.Apply(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); !errors.Is(err, ErrController) {
		t.Errorf("a limit without its controller: %v", err)
	}
	if w, err := g.Apply(&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}); err != nil || len(w) != 1 {
		t.Errorf("a preference without its controller: %v %v", w, err)
	}
}

// TestDevicesV2 lets the kernel verify the program and judge real accesses.
func TestDevicesV2(t *testing.T) {
	g := newGroup(t)
	if g.V2 == "" {
		t.Skip("no cgroup version 2")
	}
	one, three, five := int64(1), int64(3), int64(5)
	rules, open := deviceRules([]specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: &one, Minor: &five, Access: "r"},
		{Allow: true, Type: "b", Access: "rw"}})
	rules = append(rules, specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: &one, Minor: &three, Access: "w"},
		specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: &one, Minor: &five, Access: "w"})
	if w, err := g.devicesV2(rules, open); err != nil || len(w) > 0 {
		t.Fatal(w, err)
	}
	_, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own, _ := ownPaths("/proc/self/cgroup")
	h, _ := Detect()
	if err := write(filepath.Join(g.V2, "cgroup.procs"), "0"); err != nil {
		t.Skip(err)
	}
	defer write(filepath.Join(h.V2, own[""], "cgroup.procs"), "0")
	try := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	for _, c := range []struct {
		path  string
		flags int
		want  error
	}{
		{"/dev/null", unix.O_RDONLY, nil}, {"/dev/null", unix.O_WRONLY, unix.EPERM},
		{"/dev/zero", unix.O_RDONLY, nil}, {"/dev/zero", unix.O_RDWR, unix.EPERM},
		{"/dev/random", unix.O_RDONLY, nil}, {"/dev/kmsg", unix.O_RDONLY, unix.EPERM},
	} {
		if err := try(c.path, c.flags); err != c.want {
			t.Errorf("open %s %d: %v, want %v", c.path, c.flags, err, c.want)
		}
	}
}

// A parent that somebody made without processors must not leave the group without.
func TestCPUSetOfAnEmptyParent(t *testing.T) {
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(h.V1, func(v Hierarchy) bool { return slices.Contains(v.Controllers, "cpuset") })
	if i < 0 || os.Geteuid() != 0 {
		t.Skip("needs root and a version 1 cpuset hierarchy")
	}
	parent := filepath.Join(h.V1[i].Dir, "orlop-empty")
	if err := os.Mkdir(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(parent)
	g, err := h.Create("/orlop-empty/leaf")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Delete()
	b, err := os.ReadFile(filepath.Join(parent, "leaf", "cpuset.cpus"))
	if err != nil || strings.TrimSpace(string(b)) == "" {
		t.Fatalf("cpuset.cpus is %q (%v)", b, err)
	}
}

// Who kills what has just ended and was removed has nothing to kill.
func TestKillRemoved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a control group")
	}
	host, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Create("/orlop-test-" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.KillAll(); err != nil {
			t.Fatal(err)
		}
		if err := g.Delete(); err != nil {
			t.Fatal(err)
		}
	}
}
