package network_test

import (
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/network/namespace"
)

// names says who finds whom: a container, a name, and whether it has an address. The
// host's server alone knows far.example. Networks: o is open, i internal, v without IPv4, d the default bridge,
// where containers have no names.
const names = `
o1 far.example yes
o1 o2          yes
i1 far.example no
i1 i2          yes
v1 far.example yes
v1 v2          yes
d1 far.example yes
b1 far.example yes   on an open and an internal network
b1 i2          yes
`

// TestLoopbackServer: the host's server may be on its loopback, where no container is.
// Containers with a way out have it asked, whatever their families; those that have
// internal networks alone don't (CVE-2024-29018), and still find each other.
func TestLoopbackServer(t *testing.T) {
	h := newHost(t)
	before := h.place.Snapshot()
	h.resolv = h.path("resolv.conf")
	if err := os.WriteFile(h.resolv, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.image()
	h.docker("network", "create", "o")
	h.docker("network", "create", "--internal", "i")
	h.docker("network", "create", "--ipv4=false", "--ipv6", "v")
	for _, name := range []string{"o1", "o2", "i1", "i2", "v1", "v2", "d1", "b1"} {
		network := map[byte]string{'o': "o", 'i': "i", 'v': "v", 'd': "bridge", 'b': "i"}[name[0]]
		h.docker("run", "-d", "--name", name, "--network", network, "box", "sleep", "1000")
	}
	h.docker("network", "connect", "o", "b1")
	serving := map[string]*atomic.Int32{}
	for _, server := range []string{"127.0.0.1", "127.0.0.53", "::1", outIPv4, outIPv6} {
		place := h.place.NS
		if server == outIPv4 || server == outIPv6 {
			place = h.out.NS
		}
		serving[server] = somebody(t, place, server)
		asked := h.uses(server, serving)
		if h.knows("with the server at "+server, names); asked() == 0 {
			t.Errorf("the server at %s was not asked", server)
		}
		asked()
		if h.resolves("i1", "far.example"); asked() > 0 {
			t.Errorf("an internal network's container had the server at %s asked", server)
		}
	}
	asked := h.uses("127.0.0.53", serving)
	h.stop(syscall.SIGKILL)
	h.start()
	h.knows("after the daemon was killed", names)
	asked()
	h.docker("network", "disconnect", "o", "b1")
	if h.resolves("b1", "far.example"); asked() > 0 {
		t.Error("a container that has left the open network had the server asked")
	}
	h.docker("network", "connect", "o", "b1")
	h.knows("when it is back", "b1 far.example yes\n")
	h.clean(before)
}

// TestServerOfAnInternalNetwork: one that was named is asked from the container, so one
// on its own network or in the container is, though the network is internal.
func TestServerOfAnInternalNetwork(t *testing.T) {
	h := newHost(t)
	before := h.place.Snapshot()
	h.start()
	h.image()
	h.docker("network", "create", "--internal", "--subnet", "10.71.0.0/24", "i")
	h.docker("run", "-d", "--name", "server", "--network", "i", "--ip", "10.71.0.53", "box", "sleep", "1000")
	h.docker("run", "-d", "--name", "asks", "--network", "i", "--dns", "10.71.0.53", "box", "sleep", "1000")
	h.docker("run", "-d", "--name", "itself", "--network", "i", "--dns", "127.0.0.1", "box", "sleep", "1000")
	somebody(t, h.inside("server"), "10.71.0.53")
	somebody(t, h.inside("itself"), "127.0.0.1")
	h.knows("a neighbour, itself", "asks far.example yes\nitself far.example yes\n")
	h.clean(before)
}

// inside is a container's namespace, until the test ends.
func (h *host) inside(container string) *namespace.Namespace {
	h.Helper()
	ns, err := namespace.Open(h.docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { ns.Close() })
	return ns
}

// uses has the host's resolv.conf name a server, of those who serve. It returns how often
// that one was asked since the last call.
func (h *host) uses(server string, serving map[string]*atomic.Int32) (asked func() int) {
	h.Helper()
	n := serving[server]
	if err := os.WriteFile(h.resolv, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		h.Fatal(err)
	}
	return func() int { return int(n.Swap(0)) }
}

// knows asks the questions of a table.
func (h *host) knows(when, table string) {
	h.Helper()
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if have := h.resolves(f[0], f[1]); have != f[2] {
			h.Errorf("%s: %s asks for %s: %s, want %s", when, f[0], f[1], have, f[2])
		}
	}
}

// resolves asks from a container, as its programs would.
func (h *host) resolves(container, name string) string {
	start := time.Now()
	out, err := h.try("docker", "exec", container, "busybox", "timeout", "8", "busybox", "nslookup", name)
	switch {
	case time.Since(start) > 6*time.Second:
		return "silence"
	case err == nil && strings.Contains(out, "Name:"):
		return "yes"
	}
	return "no"
}
