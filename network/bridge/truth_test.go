package bridge_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// truth says who reaches whom: from, to:port, over IPv4, over IPv6. Every sandbox
// serves the ports 80, which is published where the row of its network says so, and
// 81, which never is. The host serves 90 and outside 80. "host" is the host's address
// on the wire to outside, "lo" its loopback. Networks: a and b are nat, b has no
// IPv6; r is routed, u nat-unprotected, s nat with separate sandboxes, i internal, x
// internal and isolated.
const truth = `
a1  a2:81      yes yes   neighbours
a1  b1:81      no  -     other networks are closed
a1  r1:81      no  no
a1  r1:80      yes yes   published, without translation
a1  u1:81      yes yes   wants no protection
a1  i1:80      no  no
a1  i1:81      no  no
a1  x1:81      no  no
a1  s1:81      no  no
a1  out:80     yes yes
a1  host:90    yes yes   the host's own services
a1  host:8002  yes yes   a port of another network, by the proxy over IPv6
a1  host:8001  yes yes   its own, there and back
a2  host:8001  yes yes   its neighbour's
a1  host:8101  no  no    published on the loopback
b1  a1:81      no  -
b1  host:8001  yes -
b1  out:80     yes -
r1  a1:81      no  no
r1  r2:81      yes yes
r1  out:80     yes yes
u1  a1:81      no  no
u1  out:80     yes yes
s1  s2:81      no  no    not even neighbours
s1  host:8004  yes yes   its own, there and back
s2  host:8004  yes yes   its neighbour's: published is published
s2  host:8001  yes yes
s1  out:80     yes yes
i1  i2:81      yes yes
i1  a1:80      no  no
i1  r1:80      no  no
i1  u1:81      no  no
i1  x1:80      no  no
i1  out:80     no  no
i1  host:8001  no  no
i1  host:8002  no  no    not by the proxy either
i1  host:8101  no  no
x1  x2:81      yes yes
x1  host:90    no  no
x1  out:80     no  no
x1  a1:81      no  no
out host:8001  yes yes
out host:8002  yes yes
out host:8005  yes yes
out host:8101  no  no
out host:8003  no  no    routed: not translated
out host:8007  no  no    internal: not published
out a1:80      no  no    published, but not at this address
out a1:81      no  no
out a2:81      no  no
out b1:81      no  -
out s1:81      no  no
out r1:80      yes yes
out r1:81      no  no
out u1:81      yes yes
out i1:80      no  no
out i1:81      no  no
out x1:80      no  no
host a1:81     yes yes
host r1:81     yes yes
host i1:81     yes yes
host x1:81     no  no
host out:80    yes yes
host host:8001 yes yes
host lo:8001   yes yes
host lo:8002   yes yes
host lo:8101   yes no    published on 127.0.0.1
host lo:8007   no  no
`

// world is a host with networks, and what is outside.
type world struct {
	*testing.T
	d       network.Driver
	host    *networktest.Place
	places  map[string]*networktest.Place
	address map[string][2]netip.Addr
	state   network.State
}

func pool(s string) network.Pool {
	p := netip.MustParsePrefix(s)
	return network.Pool{Subnet: p, Gateway: p.Addr().Next()}
}

// networks are those of the table. The number is the host's port.
func networks() map[string]network.Network {
	out := map[string]network.Network{}
	for i, name := range []string{"a", "b", "r", "s", "u", "x", "i"} {
		n := network.Network{ID: fmt.Sprintf("%04x0000000000", 0xa000+i), Name: name, IPv4: true, IPv6: name != "b"}
		n.Pools = []network.Pool{pool(fmt.Sprintf("10.89.%d.0/24", i+1))}
		if n.IPv6 {
			n.Pools = append(n.Pools, pool(fmt.Sprintf("fd00:89:%d::/64", i+1)))
		}
		n.ID = n.ID[:4] + fmt.Sprintf("%012x", i)
		out[name] = n
	}
	set := func(name string, f func(*network.Network)) {
		n := out[name]
		f(&n)
		out[name] = n
	}
	set("r", func(n *network.Network) { n.Options.Gateway4, n.Options.Gateway6 = network.Routed, network.Routed })
	set("u", func(n *network.Network) {
		n.Options.Gateway4, n.Options.Gateway6 = network.NATUnprotected, network.NATUnprotected
	})
	set("s", func(n *network.Network) { n.Options.Separate = true })
	set("i", func(n *network.Network) { n.Internal = true })
	set("x", func(n *network.Network) {
		n.Internal, n.Options.Gateway4, n.Options.Gateway6 = true, network.Isolated, network.Isolated
	})
	return out
}

var hostPorts = map[string]uint16{"a": 8001, "b": 8002, "r": 8003, "s": 8004, "u": 8005, "x": 8006, "i": 8007}

func newWorld(t *testing.T) *world {
	w := &world{T: t, host: networktest.NewPlace(t), places: map[string]*networktest.Place{}, address: map[string][2]netip.Addr{}}
	out := networktest.NewPlace(t)
	w.places["host"], w.places["out"] = w.host, out
	networktest.Join(w.host, out, [2]string{"wan0", "eth0"}, [2][]string{
		{"192.0.2.1/24", "fd00:2::1/64"}, {"192.0.2.9/24", "fd00:2::9/64"}})
	// What is outside knows the way to every sandbox, as a neighbour would.
	out.Run("ip route add 10.89.0.0/16 via 192.0.2.1; ip route add fd00:89::/32 via fd00:2::1")
	w.address["host"] = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00:2::1")}
	w.address["out"] = [2]netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("fd00:2::9")}
	w.address["lo"] = [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	return w
}

func (w *world) build() {
	w.Helper()
	all := networks()
	for _, name := range []string{"a", "b", "r", "s", "u", "x", "i"} {
		n := all[name]
		w.ok(w.d.Create(w.Context(), n))
		w.state.Networks = append(w.state.Networks, n)
		for i := range 2 {
			w.connect(n, i+1)
		}
	}
	w.serve("host", 90)
	w.serve("out", 80)
}

func (w *world) connect(n network.Network, i int) {
	w.Helper()
	name := fmt.Sprint(n.Name, i)
	p := networktest.NewPlace(w)
	e := networktest.EndpointOf(n, i, p)
	if i == 1 {
		e.Ports = []network.Port{{Protocol: network.TCP, Container: 80, Host: hostPorts[n.Name]}}
	}
	if name == "a1" {
		e.Ports = append(e.Ports, network.Port{Protocol: network.TCP, Container: 80, Host: 8101, HostAddress: netip.MustParseAddr("127.0.0.1")})
	}
	e, err := w.d.Connect(w.Context(), e)
	w.ok(err)
	w.state.Endpoints = append(w.state.Endpoints, e)
	w.places[name] = p
	w.address[name] = [2]netip.Addr{e.Address(false), e.Address(true)}
	w.serve(name, 80)
	w.serve(name, 81)
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// serve serves a place's name on a port and waits until it does.
func (w *world) serve(name string, port int) {
	w.Helper()
	dir := w.TempDir()
	w.ok(os.WriteFile(filepath.Join(dir, "index.html"), []byte(name+"\n"), 0o644))
	p := w.places[name]
	p.Serve(fmt.Sprintf("busybox httpd -f -p %d -h %s", port, dir))
	p.Run(fmt.Sprintf("for i in $(seq 500); do busybox wget -q -O - http://127.0.0.1:%d/ >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1", port))
}

// check asks every question of the table.
func (w *world) check() {
	w.Helper()
	var work sync.WaitGroup
	places := make(chan struct{}, 64)
	for line := range strings.Lines(truth) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		for i, want := range f[2:4] {
			if want == "-" {
				continue
			}
			work.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				if have := w.asks(f[0], f[1], i, want); have != want {
					w.Errorf("%s to %s over IPv%d: %s, want %s", f[0], f[1], 4+2*i, have, want)
				}
			})
		}
	}
	work.Wait()
}

// reaches asks for an answer that is expected to be either.
func (w *world) reaches(from, to string, family int) string { return w.asks(from, to, family, "") }

// asks asks one question. It waits long where something is to come, and briefly where
// nothing is.
func (w *world) asks(from, to string, family int, want string) string {
	wait := map[string]int{"yes": 10, "no": 1, "": 3}[want]
	name, port, _ := strings.Cut(to, ":")
	a := w.address[name][family]
	if !a.IsValid() {
		return "no address"
	}
	host := a.String()
	if a.Is6() {
		host = "[" + host + "]"
	}
	// On a busy machine a neighbour may not be found in the time that the kernel gives it.
	for end := time.Now().Add(time.Duration(wait) * time.Second); ; {
		out, err := w.places[from].Try(fmt.Sprintf("timeout %d busybox wget -q -O - http://%s:%s/ 2>/dev/null", wait, host, port))
		if err == nil && out != "" {
			return "yes"
		}
		if want != "yes" || time.Now().After(end) {
			return "no"
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestTruth asks with unmodified programs who reaches whom: at first, after a flush
// of the firewall, and with the next daemon; and what is left at the end.
func TestTruth(t *testing.T) {
	for _, called := range []string{"1", "0"} {
		// br_netfilter shows bridged packets to the inet rules, or doesn't.
		t.Run("bridge-nf-call-iptables="+called, func(t *testing.T) { testTruth(t, called) })
	}
}

func testTruth(t *testing.T, called string) {
	w := newWorld(t)
	w.host.Run(fmt.Sprintf("for f in iptables ip6tables; do f=/proc/sys/net/bridge/bridge-nf-call-$f; [ ! -e $f ] || echo %s >$f; done", called))
	before := w.host.Snapshot()
	w.d = open(t, w.host)
	w.build()
	t.Run("at first", func(t *testing.T) { w.T = t; w.check() })
	rules := w.host.Run("nft list ruleset")
	w.host.Run("nft flush ruleset")
	w.host.Run("for i in $(seq 1000); do nft list table inet orlop >/dev/null 2>&1 && exit 0; sleep 0.01; done; exit 1")
	if now := w.host.Run("nft list ruleset"); now != rules {
		t.Errorf("after a flush:\n%s", now)
	}
	t.Run("after a flush", func(t *testing.T) { w.T = t; w.check() })
	w.T = t
	w.ok(w.d.Close())
	w.d = open(t, w.host)
	w.ok(w.d.Reconcile(t.Context(), w.state))
	t.Run("with the next daemon", func(t *testing.T) { w.T = t; w.check() })
	w.T = t
	for _, e := range w.state.Endpoints {
		w.ok(w.d.Disconnect(context.Background(), e))
	}
	for _, n := range w.state.Networks {
		w.ok(w.d.Remove(context.Background(), n.ID))
	}
	w.ok(w.d.Close())
	if after := w.host.Snapshot(); after != before {
		t.Errorf("left on the host:\n%s\n\nbefore:\n%s", after, before)
	}
	if f := w.host.Run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"); f != "0\n0\n" {
		t.Errorf("forwarding stayed on: %s", f)
	}
}
