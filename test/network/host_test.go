// Package network_test asks through the Docker API, with unmodified clients, who
// reaches whom. The daemon runs in a network namespace of the test's own, with
// another as the world outside: the machine's is not touched.
package network_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/network/networktest"
	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/testimage"
)

// The world's addresses.
const (
	hostIPv4, hostIPv6 = "10.98.0.1", "fd98::1"
	outIPv4, outIPv6   = "10.98.0.2", "fd98::2"
)

// host is a daemon in a place of its own.
type host struct {
	*testing.T
	dir    string
	place  *networktest.Place
	out    *networktest.Place
	daemon *exec.Cmd
	// resolv, where set, is shown to the daemons as /etc/resolv.conf, in a mount namespace
	// of their own.
	resolv string
	mounts string // the path of that namespace
}

// newHost makes the places; the daemon is started by start.
func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it starts containers")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("needs the docker client")
	}
	h := &host{T: t, place: networktest.NewPlace(t), out: networktest.NewPlace(t)}
	var err error
	if h.dir, err = os.MkdirTemp("", "orlop-net-"); err != nil { // short: sockets are in it
		t.Fatal(err)
	}
	t.Cleanup(h.close)
	networktest.Join(h.place, h.out, [2]string{"wan", "wan"}, [2][]string{{hostIPv4 + "/24", hostIPv6 + "/64"}, {outIPv4 + "/24", outIPv6 + "/64"}})
	h.place.Run("ip route add default via " + outIPv4)
	// A neighbour that routes to containers' addresses by way of the host.
	h.out.Run("ip route add default via " + hostIPv4 + "; ip -6 route add default via " + hostIPv6)
	build := exec.Command("go", "build", "-o", h.path("bin")+"/", "../../cmd/orlopd", "../../cmd/containerd-shim-orlop-v1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return h
}

func (h *host) path(elem ...string) string { return filepath.Join(append([]string{h.dir}, elem...)...) }

// start starts the daemon and waits until it answers.
func (h *host) start() {
	h.Helper()
	log, err := os.OpenFile(h.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.Fatal(err)
	}
	defer log.Close()
	args := []string{"--net=" + h.place.Path, "--", h.path("bin", "orlopd"), "--root", h.path("root"), "--state", h.path("state")}
	if h.resolv != "" {
		args = slices.Insert(args, 0, "--mount="+h.shows())
	}
	h.daemon = exec.Command("nsenter", args...)
	h.daemon.Env = append(os.Environ(), "PATH="+h.path("bin")+":"+os.Getenv("PATH"))
	h.daemon.Stdout, h.daemon.Stderr = log, log
	if err := h.daemon.Start(); err != nil {
		h.Fatal(err)
	}
	if !e2e.Listens("unix", h.path("state", "docker.sock")) {
		text, _ := os.ReadFile(h.path("log"))
		h.Fatalf("the daemon does not come up: %s", text)
	}
}

// shows makes the namespace in which resolv is /etc/resolv.conf. A process holds it: it
// outlives daemons, as the machine's does.
func (h *host) shows() string {
	h.Helper()
	if h.mounts != "" {
		return h.mounts
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" "$(realpath /etc/resolv.conf)" && echo && exec sleep 1000`, h.resolv)
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil {
		h.Fatalf("%s is not shown: %v", h.resolv, err)
	}
	h.mounts = fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)
	return h.mounts
}

// stop ends the daemon, whose process nsenter has become.
func (h *host) stop(sig syscall.Signal) {
	h.Helper()
	if err := h.daemon.Process.Signal(sig); err != nil {
		h.Error(err)
	}
	_ = h.daemon.Wait()
	h.daemon = nil
}

// reboot ends the daemon and its containers at once, takes from the place all that the
// kernel would have forgotten, and starts the daemon.
func (h *host) reboot() {
	h.Helper()
	ids := strings.Fields(h.docker("ps", "-q", "--no-trunc"))
	h.stop(syscall.SIGKILL)
	if err := e2e.Reboot(h.dir, ids); err != nil {
		h.Fatal(err)
	}
	h.place.Run("nft flush ruleset; for l in $(ip -o link | sed 's/^[0-9]*: //; s/[@:].*//'); do case $l in lo|wan) ;; *) ip link del $l 2>/dev/null;; esac; done; " +
		"echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding")
	h.start()
}

// close removes what a test that failed has left.
func (h *host) close() {
	if h.daemon != nil {
		_, _ = h.try("sh", "-c", "docker ps -aq | xargs -r docker rm -f")
		_ = h.daemon.Process.Signal(syscall.SIGTERM)
		_ = h.daemon.Wait()
	}
	if h.Failed() {
		text, _ := os.ReadFile(h.path("log"))
		h.Logf("the daemon's log:\n%s", text)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	if strings.Contains(string(mounts), h.dir) {
		h.Errorf("mounts are left below %s", h.dir)
	}
	_ = os.RemoveAll(h.dir)
}

// try runs a program that finds the daemon.
func (h *host) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.path("state", "docker.sock"), "DOCKER_CONFIG="+h.dir)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// docker runs the docker client.
func (h *host) docker(args ...string) string {
	h.Helper()
	out, err := h.try("docker", args...)
	if err != nil {
		h.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return out
}

// image loads the image "box".
func (h *host) image() {
	h.Helper()
	if err := testimage.Write(h.path("layout")); err != nil {
		h.Fatal(err)
	}
	if out, err := exec.Command("tar", "cf", h.path("box.tar"), "-C", h.path("layout"), ".").CombinedOutput(); err != nil {
		h.Fatalf("tar: %v\n%s", err, out)
	}
	out := h.docker("load", "-q", "-i", h.path("box.tar"))
	_, id, _ := strings.Cut(out, "sha256:")
	h.docker("tag", strings.TrimSpace(id)[:12], "box")
}

// clean removes all containers and networks, ends the daemon and tells what is left.
func (h *host) clean(before string) {
	h.Helper()
	if out, err := h.try("sh", "-c", "docker ps -aq | xargs -r docker rm -f && docker network prune -f"); err != nil {
		h.Fatalf("%v: %s", err, out)
	}
	h.stop(syscall.SIGTERM)
	if after := h.place.Snapshot(); after != before {
		h.Errorf("left on the host:\n%s\n\nbefore:\n%s", after, before)
	}
	if f := h.place.Run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"); f != "0\n0\n" {
		h.Errorf("forwarding stayed on: %s", f)
	}
	for _, dir := range []string{"ns", "sandboxes"} {
		left, err := os.ReadDir(h.path("state", "io.orlop.networks.v1.local", dir))
		if err != nil || len(left) > 0 {
			h.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}
