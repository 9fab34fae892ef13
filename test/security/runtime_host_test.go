package security

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

// CVE-2021-30465, CVE-2024-45310: the target of a mount below a shared volume is
// swapped for a link while mounts are made. Nothing may be mounted or created
// outside of the root.
func TestRuntimeMountTargetRace(t *testing.T) {
	c := newCell(t)
	volume, host := t.TempDir(), t.TempDir()
	os.MkdirAll(filepath.Join(volume, "dir"), 0o755)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		link := filepath.Join(volume, "link")
		os.Symlink(host, link)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "dir"), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	})
	defer func() { close(stop); wg.Wait() }()
	for i := range 60 {
		s := spec("true")
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind"}},
			specs.Mount{Destination: "/volume/dir/made", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: fmt.Sprintf("/volume/dir/file%d", i), Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}})
		c.run(t, s) // it may fail; it may not leave anything on the host
	}
	if list, _ := os.ReadDir(host); len(list) > 0 {
		t.Errorf("made on the host: %v", list)
	}
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), host) {
		t.Error("mounted on the host")
	}
}

// A dangling link in the image leads mount points and the working directory out.
func TestRuntimeDanglingLinksStayInside(t *testing.T) {
	c := newCell(t)
	out := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{"etc/resolv.conf", "work", "mnt"} {
		if err := os.Symlink("../../../../../../../.."+out+"-"+filepath.Base(name), c.root(name)); err != nil {
			t.Fatal(err)
		}
	}
	s := spec("true")
	s.Process.Cwd = "/work"
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: "/etc/hostname", Options: []string{"bind"}},
		specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "tmpfs"})
	c.run(t, s)
	if found, _ := filepath.Glob(out + "*"); len(found) > 0 {
		t.Errorf("made on the host: %v", found)
	}
}

// CVE-2016-9962: a process inside, even with all capabilities but those over
// another user namespace, must not trace a process that is just being put in.
func TestRuntimeIsNotTraceable(t *testing.T) {
	c := newCell(t)
	s := spec("while true; do for p in /proc/[0-9]*; do cat $p/maps $p/environ 2>/dev/null | grep -a -e orlop -e security.test && echo SEEN > /tmp/seen; readlink $p/exe 2>/dev/null | grep -v ^/bin/ && echo SEEN > /tmp/seen; done; done")
	k := c.start(t, s)
	p := spec("true").Process
	for range 100 {
		if _, _, err := execIn(t, k, p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(c.root("tmp/seen")); err == nil {
		t.Error("memory or binary of the runtime was seen from inside")
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("the embedding process is dumpable: %d %v", d, err)
	}
}

// CVE-2022-0492 class: mounting a cgroup hierarchy and setting a release agent.
func TestRuntimeReleaseAgent(t *testing.T) {
	c := newCell(t)
	out, _, err := c.run(t, spec(`mkdir /tmp/cg; mount -t cgroup -o memory x /tmp/cg && echo WORKED
unshare -U -r -m -C sh -c 'mount -t cgroup -o rdma x /tmp/cg && echo WORKED; mount -t cgroup -o memory x /tmp/cg && echo > /tmp/cg/release_agent && echo WORKED'
mount -t tmpfs x /mnt && echo WORKED; mount -o remount,rw /sys && echo WORKED; umount /proc/keys && echo WORKED; true`))
	if err != nil || strings.Contains(out, "WORKED") {
		t.Errorf("%v: %s", err, out)
	}
}

// CVE-2022-29162: inheritable capabilities stay empty unless asked for.
func TestRuntimeInheritableIsEmpty(t *testing.T) {
	c := newCell(t)
	const look = "grep Cap /proc/self/status"
	s := spec(look)
	out, _, err := c.run(t, s)
	if err != nil {
		t.Fatal(err)
	}
	k := c.start(t, spec("sleep 100"))
	out2, _, err := execIn(t, k, s.Process)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{out, out2} {
		if !strings.Contains(o, "CapInh:\t0000000000000000") || !strings.Contains(o, "CapAmb:\t0000000000000000") || !strings.Contains(o, "CapBnd:\t0000000020000420") {
			t.Errorf("capabilities: %s", o)
		}
	}
}

// CVE-2023-25173: supplementary groups are exactly those of the configuration.
func TestRuntimeGroups(t *testing.T) {
	c := newCell(t)
	s := spec("grep -e Groups -e Uid -e Gid /proc/self/status")
	s.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}}
	if err := unix.Setgroups([]int{0, 4, 27}); err != nil {
		t.Fatal(err)
	}
	out, _, err := c.run(t, s)
	if err != nil || !strings.Contains(out, "Groups:\t7 8 \n") || !strings.Contains(out, "Uid:\t1000\t1000\t1000\t1000") || !strings.Contains(out, "Gid:\t1001\t1001") {
		t.Errorf("%v: %s", err, out)
	}
	s.Process.User.AdditionalGids = nil
	if out, _, err = c.run(t, s); err != nil || !strings.Contains(out, "Groups:\t\n") && !strings.Contains(out, "Groups:\t \n") {
		t.Errorf("groups are left: %v %s", err, out)
	}
}

// CVE-2024-40635: the id -1 means "unchanged" to the kernel, which would be root.
func TestRuntimeIDMinusOne(t *testing.T) {
	c := newCell(t)
	const none = ^uint32(0)
	k := c.start(t, spec("sleep 100"))
	for _, u := range []specs.User{{UID: none}, {GID: none}, {UID: 1, AdditionalGids: []uint32{none}}} {
		s := spec("id")
		s.Process.User = u
		if out, _, err := c.run(t, s); !errors.Is(err, runtime.ErrInvalidSpec) {
			t.Errorf("run as %+v: %v %s", u, err, out)
		}
		if out, _, err := execIn(t, k, s.Process); !errors.Is(err, runtime.ErrInvalidSpec) {
			t.Errorf("exec as %+v: %v %s", u, err, out)
		}
	}
}

// CVE-2023-27561: a volume at /proc, or a kernel parameter that is the host's.
func TestRuntimeProcIsProc(t *testing.T) {
	c := newCell(t)
	s := spec("true")
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/../proc", Type: "bind", Source: t.TempDir(), Options: []string{"bind"}})
	if _, _, err := c.run(t, s); !errors.Is(err, runtime.ErrInvalidSpec) {
		t.Errorf("a volume at /proc: %v", err)
	}
	for _, key := range []string{"kernel.core_pattern", "vm.panic_on_oom", "net/../kernel/core_pattern", "kernel.hostname"} {
		s := spec("true")
		s.Linux.Sysctl = map[string]string{key: "x"}
		if _, _, err := c.run(t, s); !errors.Is(err, runtime.ErrInvalidSpec) {
			t.Errorf("sysctl %s: %v", key, err)
		}
	}
}

// CVE-2021-41103 class: the state directory is nobody else's.
func TestRuntimeStateIsPrivate(t *testing.T) {
	c := newCell(t)
	k := c.start(t, spec("sleep 100"))
	dir := c.r.StateDir(k.ID)
	for _, path := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "state.json")} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm()&0o066 != 0 {
			t.Errorf("%s: %v %v", path, st.Mode(), err)
		}
	}
	open := t.TempDir()
	os.Chmod(open, 0o777)
	if r, err := runtime.Open(open, runtime.Options{}); err == nil {
		r.Close()
		t.Error("a state directory that all may write to was accepted")
	}
}

// A tiny memory limit kills the container, never the process that makes it.
func TestRuntimeTinyMemoryLimit(t *testing.T) {
	c := newCell(t)
	for _, limit := range []int64{4096, 64 << 10, 256 << 10, 1 << 20} {
		s := spec("true")
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		k, err := c.r.Create(ctx, runtime.CreateConfig{ID: fmt.Sprintf("tiny-%d", limit), Bundle: c.bundle, Spec: s})
		if err == nil {
			if err = k.Start(ctx); err == nil {
				k.Wait(ctx)
			}
			k.Delete(ctx, true)
		}
		t.Logf("limit %d: %v", limit, err)
		cancel()
	}
}
