package guest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const mib = 1 << 20

// disk is the machine's first, /dev/vda.
const diskMajor, diskMinor = 254, 0

// check compares files of the group.
func (b *box) check(want [][4]string) {
	b.t.Helper()
	for _, w := range want {
		if got := b.file(w[0], w[1], w[2]); got != w[3] {
			b.t.Errorf("%s is %q, want %q", w[0], got, w[3])
		}
	}
}

func TestLimits(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		throttle := specs.LinuxThrottleDevice{Rate: mib}
		throttle.Major, throttle.Minor = diskMajor, diskMinor
		b.spec.Linux.Resources = &specs.LinuxResources{
			Memory:  &specs.LinuxMemory{Limit: p(int64(64 * mib))},
			CPU:     &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(25000)), Period: p(uint64(50000)), Cpus: "0", Mems: "0"},
			Pids:    &specs.LinuxPids{Limit: p(int64(50))},
			BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle}},
		}
		b.start("sh", "-c", "while :; do sleep 0.1; done")
		quota := func(v2, v1 string) [4]string {
			if unified() {
				return [4]string{"cpu.max", "", "", v2}
			}
			return [4]string{"", "cpu", "cpu.cfs_quota_us", v1}
		}
		rate := [4]string{"io.max", "blkio", "blkio.throttle.read_bps_device", "254:0 rbps=1048576 wbps=max riops=max wiops=max"}
		if !unified() {
			rate[3] = "254:0 1048576"
		}
		b.check([][4]string{{"memory.max", "memory", "memory.limit_in_bytes", "67108864"}, {"pids.max", "pids", "pids.max", "50"},
			{"cpuset.cpus", "cpuset", "cpuset.cpus", "0"}, quota("25000 50000", "25000"), rate})
		if b.systemd {
			b.told(b.show("MemoryMax", "MemoryLimit", "TasksMax", "CPUQuotaPerSecUSec", "Slice", "Delegate"),
				"=67108864", "TasksMax=50", "CPUQuotaPerSecUSec=500ms", "Slice=orlop-guest.slice", "Delegate=yes")
		}
		b.must("update", "--memory", "96m", "--pids-limit", "40", "--cpu-quota", "30000", "--cpu-period", "100000", b.id)
		changed := [][4]string{{"memory.max", "memory", "memory.limit_in_bytes", "100663296"}, {"pids.max", "pids", "pids.max", "40"}, quota("30000 100000", "30000")}
		b.check(changed)
		if b.systemd {
			b.told(b.show("MemoryMax", "MemoryLimit", "TasksMax", "CPUQuotaPerSecUSec"), "=100663296", "TasksMax=40", "CPUQuotaPerSecUSec=300ms")
			if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
				t.Fatalf("daemon-reload: %v %s", err, out)
			}
			b.check(changed)
		}
	})
}

// told looks for words in a text.
func (b *box) told(text string, words ...string) {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

// TestFirstBreath makes sure that a program never ran outside of its group.
func TestFirstBreath(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[:len(b.spec.Linux.Namespaces)-1] // the cgroup namespace
		b.spec.Mounts = b.spec.Mounts[:len(b.spec.Mounts)-1]
		b.start("sh", "-c", "cat /proc/self/cgroup >/tmp/first; sleep 1000")
		first := filepath.Join(b.dir, "rootfs/tmp/first")
		b.eventually("the program runs", func() bool { s, err := os.ReadFile(first); return err == nil && len(s) > 0 })
		text, _ := os.ReadFile(first)
		for line := range strings.Lines(string(text)) {
			f := strings.SplitN(line, ":", 3)
			// systemd keeps its own version 2 hierarchy for nobody, on version 1.
			if !strings.Contains(f[2], b.id) && (unified() || f[0] != "0") && f[1] != "misc" {
				t.Errorf("outside: %s", line)
			}
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: p(int64(24 * mib))}
		b.start("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.1; done; head -c 100m /dev/zero | tail; echo $? >/tmp/status; sleep 1000")
		lines := b.events()
		if err := os.WriteFile(filepath.Join(b.dir, "rootfs/tmp/go"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		select {
		case line := <-lines:
			if !strings.Contains(line, `"type":"oom"`) {
				t.Errorf("told %s", line)
			}
		case <-time.After(patience):
			t.Error("no event")
		}
		if s := b.state(); s.Status != "running" {
			t.Errorf("the container is %s", s.Status)
		}
	})
}

// rule is a device rule of one device.
func rule(allow bool, major, minor int64, access string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: "b", Major: p(major), Minor: p(minor), Access: access}
}

func TestDevices(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		b.spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
		caps := append(b.spec.Process.Capabilities.Bounding, "CAP_MKNOD")
		b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
		b.start("sh", "-c", "mknod /tmp/disk b 254 0; sleep 1000")
		b.eventually("the node is made", func() bool { _, err := os.Stat(filepath.Join(b.dir, "rootfs/tmp/disk")); return err == nil })
		read := func() bool {
			_, err := b.call("exec", b.id, "dd", "if=/tmp/disk", "of=/dev/null", "bs=8192", "count=1")
			return err == nil
		}
		if read() {
			t.Error("a device that nobody has allowed was read")
		}
		// Loosened, tightened and loosened again: each list replaces the one before.
		for i, allow := range []bool{true, false, true} {
			list := specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, rule(allow, diskMajor, diskMinor, "r")}}
			file := filepath.Join(b.dir, "devices.json")
			os.WriteFile(file, []byte(resources(list)), 0o600)
			b.must("update", "--resources", file, b.id)
			if read() != allow {
				t.Errorf("update %d: reading is not as allowed (%v)", i, allow)
			}
		}
		if b.systemd {
			exec.Command("systemctl", "daemon-reload").Run()
			if _, err := b.call("exec", b.id, "dd", "if=/dev/null", "of=/tmp/disk", "count=0", "conv=notrunc"); err == nil {
				t.Error("after a reload of systemd a device may be written")
			}
		}
	})
}

func TestPauseAndKill(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		// No pid namespace: only the group knows all processes.
		b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
		b.start("sh", "-c", "for i in 1 2 3 4 5; do (while :; do sleep 0.01; done) & done; while :; do sleep 0.05; echo >>/tmp/ticks; done")
		ticks := func() int64 {
			st, err := os.Stat(filepath.Join(b.dir, "rootfs/tmp/ticks"))
			if err != nil {
				return 0
			}
			return st.Size()
		}
		b.eventually("it runs", func() bool { return ticks() > 0 })
		b.must("pause", b.id)
		if s := b.state(); s.Status != "paused" {
			t.Errorf("it is %s", s.Status)
		}
		if unified() && !strings.Contains(b.file("cgroup.events", "", ""), "frozen 1") {
			t.Error("not frozen")
		}
		at := ticks()
		time.Sleep(300 * time.Millisecond)
		if ticks() != at {
			t.Error("a paused container goes on")
		}
		b.must("resume", b.id)
		b.eventually("it goes on", func() bool { return ticks() > at })
		b.must("pause", b.id)
		b.must("kill", "--all", b.id, "KILL")
		b.eventually("all are dead, paused as they were", func() bool {
			return b.state().Status == "stopped"
		})
		b.must("delete", b.id)
	})
}

func TestPidsLimit(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		b.spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: p(int64(4))}
		b.start("sleep", "1000")
		out, err := b.call("exec", b.id, "sh", "-c", "sleep 5 & sleep 5 & sleep 5 & sleep 5 & wait")
		if err == nil || !strings.Contains(out, "can't fork") {
			t.Errorf("too many processes: %v %s", err, out)
		}
	})
}

func TestStatistics(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		b.start("sh", "-c", "head -c 4m /dev/zero >/tmp/f; while :; do :; done")
		b.eventually("it has used the processor", func() bool { return b.cpu() > 0 })
		out := b.must("events", "--stats", b.id)
		b.told(out, `"memory"`, `"pids":{"current":`)
		if unified() && !strings.Contains(out, `"psi":{"some":{"avg10":`) {
			t.Errorf("no pressure in %s", out)
		}
	})
}

// cpu is the processor time used, in nanoseconds.
func (b *box) cpu() uint64 {
	var e struct {
		Data struct {
			CPU struct{ Usage struct{ Total uint64 } }
		}
	}
	json.Unmarshal([]byte(b.must("events", "--stats", b.id)), &e)
	return e.Data.CPU.Usage.Total
}

// TestDivided lets the container's first process divide its group, as a systemd
// inside does; more programs can be run in it.
func TestDivided(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		if !unified() {
			t.Skip("version 1 groups can be divided and have processes")
		}
		for i, m := range b.spec.Mounts {
			if m.Destination == "/sys/fs/cgroup" {
				b.spec.Mounts[i].Options = []string{"nosuid", "noexec", "nodev", "rw"}
			}
		}
		b.start("sh", "-c", "cd /sys/fs/cgroup && mkdir inner && echo 1 >inner/cgroup.procs && echo +memory +pids >cgroup.subtree_control && echo >/tmp/divided; sleep 1000")
		b.eventually("it divides its group", func() bool { _, err := os.Stat(filepath.Join(b.dir, "rootfs/tmp/divided")); return err == nil })
		if out := b.must("exec", b.id, "cat", "/proc/self/cgroup"); strings.TrimSpace(out) != "0::/inner" {
			t.Errorf("the new program is in %s", out)
		}
		b.must("delete", "--force", b.id)
	})
}

// TestParentRefuses names a group below one with processes.
func TestParentRefuses(t *testing.T) {
	if os.Getenv("ORLOP_VM") == "" || !unified() {
		t.Skip("runs in the machine of test/vm, on version 2")
	}
	dir := "/sys/fs/cgroup/orlop-busy"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleeper.Process.Kill(); sleeper.Wait(); os.Remove(dir) })
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(sleeper.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	b := newBox(t, "refused", false)
	b.spec.Linux.CgroupsPath = "/orlop-busy/refused"
	b.start("sleep", "1000") // no limits: it works
	b.must("delete", "--force", b.id)
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: p(int64(64 * mib))}
	j, _ := json.Marshal(b.spec)
	os.WriteFile(filepath.Join(b.dir, "config.json"), j, 0o600)
	out, err := b.call("create", "--bundle", b.dir, b.id)
	if err == nil {
		t.Fatal("a limit that cannot be had was accepted")
	}
	b.told(out, "memory.max", "has processes of its own")
}

// TestScopeName checks names that need escaping, nested slices and a second life
// of the same name right after the first.
func TestScopeName(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		if !b.systemd {
			t.Skip("names of units")
		}
		b.spec.Linux.CgroupsPath = "orlop-guest-deep.slice:orlop:" + b.id
		for range 3 {
			b.start("sleep", "1000")
			if path := b.file("cgroup.procs", "pids", "cgroup.procs"); path == "" {
				t.Error("nobody is in the scope")
			}
			b.told(b.show("ControlGroup"), "/orlop.slice/orlop-guest.slice/orlop-guest-deep.slice/orlop-"+b.id+".scope")
			b.must("delete", "--force", b.id)
		}
	})
}

// TestMakerKilled kills the maker of a container while systemd has the scope and
// the child still waits for a hook: nothing stays that nobody knows of.
func TestMakerKilled(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		if !b.systemd {
			t.Skip("a group in files stays until it is discarded; see TestDiscard of runtime")
		}
		b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "20"}}}}
		b.spec.Process.Args = []string{"sleep", "1000"}
		j, _ := json.Marshal(b.spec)
		if err := os.WriteFile(filepath.Join(b.dir, "config.json"), j, 0o600); err != nil {
			t.Fatal(err)
		}
		maker := exec.Command("orlop-runtime", "--root", b.root, "--systemd-cgroup", "create", "--bundle", b.dir, b.id)
		if err := maker.Start(); err != nil {
			t.Fatal(err)
		}
		b.eventually("the scope is there", func() bool { return strings.Contains(b.show("ActiveState"), "=active") })
		maker.Process.Kill()
		maker.Wait()
		b.eventually("the scope has gone", func() bool { return strings.Contains(b.show("ActiveState"), "=inactive") })
	})
}

// TestNameIsTaken makes a second container for a scope that is in use: an error,
// and the first one lives on.
func TestNameIsTaken(t *testing.T) {
	drivers(t, func(t *testing.T, b *box) {
		if !b.systemd {
			t.Skip("groups in files can be shared")
		}
		b.start("sleep", "1000")
		out, err := b.call("create", "--bundle", b.dir, b.id+"-2")
		if err == nil {
			b.call("delete", "--force", b.id+"-2")
			t.Fatal("two containers have one scope")
		}
		b.told(out, "orlop-"+b.id+".scope", "already")
		if s := b.state(); s.Status != "running" {
			t.Errorf("the first container is %s", s.Status)
		}
	})
}
