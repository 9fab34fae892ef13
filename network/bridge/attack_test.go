package bridge_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// TestLoopbackFromOutside: a neighbour on the wire sends to 127.0.0.1, on a host that
// lets it (route_localnet, as kube-proxy sets it). The host's own service shows that
// the packets arrive.
func TestLoopbackFromOutside(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	n := networks()["a"]
	w.ok(w.d.Create(t.Context(), n))
	w.connect(n, 1)
	w.serve("host", 90)
	w.host.Run("echo 1 >/proc/sys/net/ipv4/conf/wan0/route_localnet")
	w.places["out"].Run(`echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
ip addr del 127.0.0.1/8 dev lo; ip route del local 127.0.0.1 table local 2>/dev/null
ip route add 127.0.0.1 via 192.0.2.1 src 192.0.2.9`)
	if w.reaches("out", "lo:90", 0) != "yes" {
		t.Fatal("the attack doesn't arrive: this test shows nothing")
	}
	if w.asks("out", "lo:8101", 0, "no") != "no" {
		t.Error("a port published on 127.0.0.1 was reached from outside")
	}
	if w.reaches("host", "lo:8101", 0) != "yes" {
		t.Error("the host itself doesn't reach it")
	}
}

// spoofers are two networks, one of which allows what the other mustn't.
func spoofers() map[bool]network.Network {
	strict, loose := networks()["a"], networks()["r"]
	loose.Options.Gateway4, loose.Options.Gateway6 = "", ""
	loose.Options.AllowSpoofing = true
	return map[bool]network.Network{false: strict, true: loose}
}

// TestSpoofing: a sandbox takes its neighbour's address by ARP and by MAC.
func TestSpoofing(t *testing.T) {
	for allowed, n := range spoofers() {
		t.Run(fmt.Sprint("allowed=", allowed), func(t *testing.T) {
			w := newWorld(t)
			w.d = open(t, w.host)
			defer w.d.Close()
			w.ok(w.d.Create(t.Context(), n))
			w.connect(n, 1)
			w.connect(n, 2)
			bad, victim := w.places[n.Name+"1"], w.address[n.Name+"2"][0].String()
			w.host.Run("busybox ping -c1 -W3 " + victim)
			neighbour := func() string { return w.host.Run("ip neigh show " + victim + " dev br-" + n.ID[:12]) }
			before := neighbour()
			bad.Run("ip addr add " + victim + "/32 dev eth0; busybox arping -U -c2 -I eth0 " + victim + " >/dev/null || true")
			took := strings.Contains(neighbour(), bad.Run("ip -o link show eth0 | grep -o 'ether [^ ]*' | cut -d' ' -f2 | tr -d '\n'"))
			if took != allowed {
				t.Errorf("the neighbour's address was taken: %v\n%s%s", took, before, neighbour())
			}
			bad.Run("ip addr del " + victim + "/32 dev eth0; ip link set eth0 address 02:00:00:00:00:77")
			if _, err := bad.Try("busybox ping -c1 -W2 " + n.Pools[0].Gateway.String()); (err == nil) != allowed {
				t.Errorf("another MAC address worked: %v", err == nil)
			}
		})
	}
}

// advertise sends a router advertisement (RFC 4861, 4.2) with a prefix from a place.
func advertise(t *testing.T, from *networktest.Place) {
	t.Helper()
	err := from.NS.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		m := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 0, 0}
		prefix := netip.MustParseAddr("fd66::").As16()
		all := netip.MustParseAddr("ff02::1").As16()
		return unix.Sendto(fd, append(m, prefix[:]...), 0, &unix.SockaddrInet6{Addr: all, ZoneId: 2})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRouterAdvertisements: a sandbox says that it is a router, to a neighbour who
// believes routers (CVE-2020-13401). Without our bridge's rules it works.
func TestRouterAdvertisements(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	n := networks()["a"]
	w.ok(w.d.Create(t.Context(), n))
	w.connect(n, 1)
	w.connect(n, 2)
	bad, victim := w.places["a1"], w.places["a2"]
	if index := bad.Run("ip -o link show eth0"); !strings.HasPrefix(index, "2:") {
		t.Fatalf("eth0 isn't the second: %s", index)
	}
	bridgeIP := w.host.Run("ip -6 addr show dev br-" + n.ID[:12])
	victim.Run("echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra")
	believed := func() bool {
		return strings.Contains(victim.Run("ip -6 route; ip -6 addr"), "fd66:")
	}
	// It is sent until its own loopback of time shows that others arrive: pings.
	for range 5 {
		advertise(t, bad)
		bad.Run("busybox ping -c1 -W3 " + w.address["a2"][1].String())
	}
	if believed() {
		t.Error("a sandbox's neighbour believes that it is a router")
	}
	w.ok(w.d.Close())
	w.host.Run("nft delete table bridge orlop")
	for range 200 {
		advertise(t, bad)
		if believed() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !believed() {
		t.Error("the attack doesn't arrive: this test shows nothing")
	}
	if now := w.host.Run("ip -6 addr show dev br-" + n.ID[:12]); now != bridgeIP {
		t.Errorf("the host believes it: %s", now)
	}
}

// TestDynamicPorts: ports that the kernel chooses or that come from a range are free
// for nobody else; a taken one is a conflict and leaves nothing.
func TestDynamicPorts(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	n := networks()["a"]
	w.ok(w.d.Create(t.Context(), n))
	seen := map[string]bool{}
	publish := func(i int, p network.Port) (network.Endpoint, error) {
		e := networktest.EndpointOf(n, i, networktest.NewPlace(t))
		e.Ports = []network.Port{p}
		return w.d.Connect(t.Context(), e)
	}
	for i, protocol := range []network.Protocol{network.TCP, network.UDP, network.TCP, network.UDP} {
		e, err := publish(i+1, network.Port{Protocol: protocol, Container: 80})
		w.ok(err)
		key := fmt.Sprint(protocol, e.Ports[0].Host)
		if seen[key] || e.Ports[0].Host == 0 || e.Ports[0].HostEnd != e.Ports[0].Host {
			t.Errorf("port %+v", e.Ports[0])
		}
		seen[key] = true
	}
	for i, want := range []uint16{9000, 9001, 9002} {
		e, err := publish(i+11, network.Port{Protocol: network.TCP, Container: 80, Host: 9000, HostEnd: 9002})
		w.ok(err)
		if e.Ports[0].Host != want {
			t.Errorf("port %d, want %d", e.Ports[0].Host, want)
		}
	}
	rules := w.host.Run("nft list ruleset; ip -o link | wc -l")
	if _, err := publish(20, network.Port{Protocol: network.TCP, Container: 80, Host: 9000, HostEnd: 9002}); !errdefs.IsConflict(err) {
		t.Errorf("a full range: %v", err)
	}
	if now := w.host.Run("nft list ruleset; ip -o link | wc -l"); now != rules {
		t.Errorf("the conflict left something:\n%s", now)
	}
}

// TestByTheRouter: a sandbox sends what is for a separate neighbour to the gateway, which
// is a router. What goes by a published port comes back to the same network and passes.
func TestByTheRouter(t *testing.T) {
	for name, want := range map[string]string{"a": "yes", "s": "no"} {
		w := newWorld(t)
		w.d = open(t, w.host)
		// With br_netfilter's help the bridge would take the way back for its own.
		w.host.Run("for f in iptables ip6tables; do echo 0 >/proc/sys/net/bridge/bridge-nf-call-$f; done 2>/dev/null || true")
		n := networks()[name]
		w.ok(w.d.Create(t.Context(), n))
		w.connect(n, 1)
		w.connect(n, 2)
		for i, bits := range []string{"/32", "/128"} {
			for _, pair := range [][2]string{{"1", "2"}, {"2", "1"}} {
				to := w.address[name+pair[1]][i].String() + bits
				w.places[name+pair[0]].Run("ip route add " + to + " via " + n.Pools[i].Gateway.String())
			}
			if have := w.asks(name+"2", name+"1:81", i, want); have != want {
				t.Errorf("network %s, IPv%d: %s, want %s", name, 4+2*i, have, want)
			}
			if have := w.asks(name+"2", "host:"+fmt.Sprint(hostPorts[name]), i, "yes"); have != "yes" {
				t.Errorf("network %s, IPv%d: its own published port is closed", name, 4+2*i)
			}
		}
		w.ok(w.d.Close())
	}
}
