package networktest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
)

// Place is a network namespace of a test's own. Nothing is ever done in the
// machine's.
type Place struct {
	t testing.TB
	// Path is where it is mounted.
	Path string
	NS   *namespace.Namespace
}

// NewPlace makes a namespace that ends with the test. It skips the test without
// root.
func NewPlace(t testing.TB) *Place {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeNamespace(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	ns, err := namespace.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	p := &Place{t, path, ns}
	// A new namespace has some of the first one's settings.
	p.Run("ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding")
	return p
}

// makeNamespace makes a namespace on a thread of its own, which ends there, and
// mounts it.
func makeNamespace(path string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	return <-done
}

// Leave unmounts the namespace, so that it ends with its last process.
func (p *Place) Leave() {
	p.t.Helper()
	if err := unix.Unmount(p.Path, unix.MNT_DETACH); err != nil {
		p.t.Fatal(err)
	}
	p.NS.Close()
}

// Command prepares a shell command in the namespace, with its own /proc/sys/net.
func (p *Place) Command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+p.Path, "sh", "-c", script)
	cmd.WaitDelay = time.Second
	return cmd
}

// Try runs a shell command in the namespace and returns what it printed.
func (p *Place) Try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := p.Command(ctx, script).CombinedOutput()
	return string(out), err
}

// Run is Try that must succeed.
func (p *Place) Run(script string) string {
	p.t.Helper()
	out, err := p.Try(script)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// Serve runs a shell command in the namespace until the test ends.
func (p *Place) Serve(script string) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := p.Command(ctx, "exec "+script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if p.t.Failed() && out.Len() > 0 {
			p.t.Logf("%s: %s", script, out.String())
		}
	})
}

// Snapshot describes everything that a driver could leave behind, counters and
// indexes apart.
func (p *Place) Snapshot() string {
	p.t.Helper()
	links := p.Run("ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*//' | cut -d: -f1 | sort")
	rest := p.Run("nft list ruleset; ip route; ip -6 route | grep -v ^fe80 || true; ip addr show dev lo | grep inet")
	return strings.TrimSpace(links + rest)
}

// Join joins two places by a wire. Each end is "name address/bits", and the second
// place gets a default route by the first's address if there is a gateway.
func Join(a, b *Place, ends [2]string, addresses [2][]string) {
	a.t.Helper()
	a.Run(fmt.Sprintf("ip link add %s type veth peer name %s netns %s", ends[0], ends[1], b.pid()))
	for i, p := range []*Place{a, b} {
		for _, x := range addresses[i] {
			p.Run(fmt.Sprintf("ip addr add %s dev %s nodad 2>/dev/null || ip addr add %s dev %s", x, ends[i], x, ends[i]))
		}
		p.Run("ip link set " + ends[i] + " up")
	}
}

// pid starts a process in the place, as ip names namespaces by.
func (p *Place) pid() string {
	p.t.Helper()
	cmd := p.Command(context.Background(), "exec sleep 60")
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	// nsenter has entered once it has become the shell.
	want, _ := p.NS.Inode()
	for range 500 {
		ns, err := namespace.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		if err == nil {
			have, _ := ns.Inode()
			ns.Close()
			if have == want {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Sprint(cmd.Process.Pid)
}
