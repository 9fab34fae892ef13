package runtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

// withUserNamespace maps the container's ids to a range of the host's.
func withUserNamespace(s *specs.Spec) *specs.Spec {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
	return s
}

func TestUserNamespace(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "file"), nil, 0o644)
	os.Chown(filepath.Join(host, "file"), 1000, 1000)
	os.Chmod(host, 0o755)
	s := withUserNamespace(newSpec("sh", "-c", "cat /proc/self/uid_map; id; stat -c '%u %g' /plain/file /mapped/file; ls -l /dev/null; stat -c %t:%T /proc/keys; touch /dev/shm/x && echo fine"))
	id := []specs.LinuxIDMapping{{ContainerID: 1000, HostID: 100007, Size: 1}, {ContainerID: 0, HostID: 100000, Size: 1}}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/plain", Type: "bind", Source: host, Options: []string{"bind", "ro"}},
		specs.Mount{Destination: "/mapped", Type: "bind", Source: host, Options: []string{"bind"}, UIDMappings: id, GIDMappings: id})
	out, code := runSpec(t, r, bundle, s)
	for _, want := range []string{"100000", "uid=0(root) gid=0", "65534 65534\n7 7\n", "crw-rw-rw-", "1:3", "fine"} {
		if !strings.Contains(out, want) {
			t.Errorf("exit %d, no %q in: %s", code, want, out)
		}
	}
}

func TestExecInUserNamespace(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	c := start(t, r, bundle, withUserNamespace(newSpec("sleep", "60")))
	out, code := inside(t, c, process("sh", "-c", "cat /proc/self/uid_map; id -u"))
	if code != 0 || !strings.Contains(out, "100000") || !strings.HasSuffix(out, "\n0\n") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// TestJoinedNamespaces is a pod: a second container in the first one's user,
// network, ipc, uts and pid namespaces, with mounts of its own.
func TestJoinedNamespaces(t *testing.T) {
	for _, user := range []bool{false, true} {
		t.Run(fmt.Sprint(user), func(t *testing.T) {
			r, bundle := openRuntime(t), newBundle(t)
			first := newSpec("sleep", "60")
			if user {
				first = withUserNamespace(first)
			}
			c := start(t, r, bundle, first)
			s := newSpec("sh", "-c", "ps; readlink /proc/self/ns/net; id -u")
			if user {
				s.Linux.UIDMappings, s.Linux.GIDMappings = first.Linux.UIDMappings, first.Linux.GIDMappings
			}
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace}}
			for kind, file := range map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid", specs.UserNamespace: "user"} {
				if kind != specs.UserNamespace || user {
					s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", c.Pid(), file)})
				}
			}
			s.Hostname = ""
			out, code := runSpecAs(t, r, bundle, s, testID(t)+"-2")
			want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", c.Pid()))
			if code != 0 || !strings.Contains(out, "sleep 60") || !strings.Contains(out, want) {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
}

func TestTimeNamespace(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("cat", "/proc/uptime")
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 10_000_000}}
	out, code := runSpec(t, r, bundle, s)
	if code != 0 || len(out) < 8 || out[0] != '1' || out[1] != '0' {
		t.Errorf("exit %d: %s", code, out)
	}
	s.Process.Args = []string{"sleep", "60"}
	c := start(t, r, bundle, s)
	if out, code := inside(t, c, process("cat", "/proc/uptime")); code != 0 || !strings.HasPrefix(out, "10") {
		t.Errorf("exec: exit %d: %s", code, out)
	}
}

func TestRootfsMounts(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	upper, work := t.TempDir(), t.TempDir()
	s := newSpec("sh", "-c", "touch /made; mount | head -1")
	s.Root.Path = "nowhere"
	ctx := context.Background()
	out, _ := os.CreateTemp(t.TempDir(), "out")
	c, err := r.Create(ctx, runtime.CreateConfig{ID: testID(t), Bundle: bundle, Spec: s, Stdout: out, Stderr: out, Rootfs: []mount.Mount{{Type: "overlay",
		Source: "overlay", Options: []string{"lowerdir=" + bundle + "/rootfs", "upperdir=" + upper, "workdir=" + work}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Delete(ctx, true)
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), upper) {
		t.Error("the overlay shows on the host")
	}
	c.Start(ctx)
	c.Wait(ctx)
	b, _ := os.ReadFile(out.Name())
	if _, err := os.Stat(filepath.Join(upper, "made")); err != nil || !strings.HasPrefix(string(b), "overlay on / ") {
		t.Errorf("%v: %s", err, b)
	}
}

func TestCopyUpAndPropagation(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("sh", "-c", "cat /etc/passwd | wc -l; touch /etc/new && mount | grep ' /etc '; mount | grep ' /ro '; touch /ro/x")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "nodev"}},
		specs.Mount{Destination: "/ro", Type: "bind", Source: t.TempDir(), Options: []string{"rbind", "rro"}})
	out, _ := runSpec(t, r, bundle, s)
	if !strings.HasPrefix(out, "2\ntmpfs on /etc type tmpfs (rw,nodev") || !strings.Contains(out, "touch: /ro/x: Read-only") {
		t.Errorf("%s", out)
	}
	if _, err := os.Stat(filepath.Join(bundle, "rootfs/etc/new")); err == nil {
		t.Error("the image was written to")
	}
}

func TestLifeCycle(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	ctx := context.Background()
	limit, pids := int64(64<<20), int64(50)
	s := newSpec("sleep", "60")
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	c := start(t, r, bundle, s)
	if err := c.Start(ctx); err == nil {
		t.Error("started twice")
	}
	if err := c.Delete(ctx, false); err == nil {
		t.Error("a running container was deleted")
	}
	if err := c.Pause(ctx); err != nil || c.Status() != runtime.Paused {
		t.Errorf("pause: %v %s", err, c.Status())
	}
	if _, err := c.Exec(ctx, runtime.ExecConfig{Process: process("true")}); err == nil {
		t.Error("exec in a paused container")
	}
	if err := c.Resume(ctx); err != nil || c.Status() != runtime.Running {
		t.Errorf("resume: %v %s", err, c.Status())
	}
	more := int64(128 << 20)
	if err := c.Update(ctx, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &more}}); err != nil {
		t.Error(err)
	}
	st, err := c.Stats()
	if err != nil || st.Memory.Limit != uint64(more) || st.Pids.Limit != 50 || st.Pids.Current != 1 || st.CPU.Usage == 0 {
		t.Errorf("%+v %v", st, err)
	}
	if err := c.Kill(ctx, syscall.SIGKILL, false); err != nil {
		t.Error(err)
	}
	if st, _ := c.Wait(ctx); st.Code != 137 || st.Signal != 9 {
		t.Errorf("%+v", st)
	}
	if err := c.Kill(ctx, syscall.SIGTERM, false); err == nil {
		t.Error("a dead container was killed")
	}
	if err := c.Delete(ctx, false); err != nil {
		t.Error(err)
	}
	if _, err := r.Load(c.ID); err == nil {
		t.Error("loaded after deletion")
	}
}

func TestOOM(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	limit := int64(8 << 20)
	s := newSpec("sh", "-c", "sleep 0.2; dd if=/dev/zero of=/dev/null bs=64M count=1; x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 5")
	s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	c := start(t, r, bundle, s)
	var seen atomic.Int32
	stop, err := c.OOM(func() { seen.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c.Wait(context.Background())
	for range 100 {
		if seen.Load() > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no event")
}

func TestHooks(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	log := filepath.Join(t.TempDir(), "log")
	os.WriteFile(log, nil, 0o666)
	host := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " $(cat | tr -d '\\n' | grep -o 'status\":\"[a-z]*') >> " + log}, Env: []string{"PATH=/usr/bin:/bin"}}}
	}
	s := newSpec("cat", "/tmp/from-hook")
	s.Hooks = &specs.Hooks{Prestart: host("prestart"), CreateRuntime: host("createRuntime"), CreateContainer: host("createContainer"),
		StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > /tmp/from-hook"}}},
		Poststart:      host("poststart"), Poststop: host("poststop")}
	out, code := runSpec(t, r, bundle, s)
	var state specs.State
	if err := json.Unmarshal([]byte(out), &state); err != nil || state.Pid == 0 || state.Status != specs.StateCreated {
		t.Errorf("exit %d: %q %v", code, out, err)
	}
	b, _ := os.ReadFile(log)
	want := "prestart status\":\"creating\ncreateRuntime status\":\"creating\ncreateContainer status\":\"creating\npoststart status\":\"running\npoststop status\":\"stopped\n"
	if string(b) != want {
		t.Errorf("hooks ran: %s", b)
	}
	s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
	if _, err := r.Create(context.Background(), runtime.CreateConfig{ID: testID(t) + "-2", Bundle: bundle, Spec: s}); err == nil {
		t.Error("a failed hook was ignored")
	}
	if list, _ := r.List(); len(list) != 0 {
		t.Errorf("%d containers are left", len(list))
	}
}

func TestSeccompListener(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan specs.ContainerProcessState, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buf, oob := make([]byte, 64<<10), make([]byte, 64)
		n, m, _, _, _ := conn.(*net.UnixConn).ReadMsgUnix(buf, oob)
		var st specs.ContainerProcessState
		json.Unmarshal(buf[:n], &st)
		if list, err := unix.ParseSocketControlMessage(oob[:m]); err == nil && len(list) == 1 {
			fds, _ := unix.ParseUnixRights(&list[0])
			unix.Close(fds[0]) // nobody answers: the call fails with ENOSYS
		}
		got <- st
	}()
	s := newSpec("sh", "-c", "mkdir /tmp/x 2>&1; echo done")
	s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "words",
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActNotify}}}
	out, _ := runSpec(t, r, bundle, s)
	if !strings.Contains(out, "done") {
		t.Error(out)
	}
	select {
	case st := <-got:
		if st.Metadata != "words" || len(st.Fds) != 1 || st.Fds[0] != specs.SeccompFdName || st.Pid == 0 {
			t.Errorf("%+v", st)
		}
	case <-time.After(5 * time.Second):
		t.Error("the agent got nothing")
	}
}
