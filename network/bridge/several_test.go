package bridge_test

import (
	"strings"
	"testing"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/networktest"
)

// TestSeveralNetworks: a sandbox's way out is by the network of the best priority,
// and by the next when that is disconnected.
func TestSeveralNetworks(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	all := networks()
	p := networktest.NewPlace(t)
	var endpoints []network.Endpoint
	for i, c := range []struct {
		network  string
		priority int
	}{{"a", 0}, {"r", 10}, {"i", 100}} {
		n := all[c.network]
		w.ok(w.d.Create(t.Context(), n))
		e := networktest.EndpointOf(n, 1, p)
		e.Interface, e.Metric = "eth"+string(rune('0'+i)), network.Metric(c.priority, i)
		e, err := w.d.Connect(t.Context(), e)
		w.ok(err)
		endpoints = append(endpoints, e)
	}
	by := func(want string) {
		t.Helper()
		for _, to := range []string{"192.0.2.9", "fd00:2::9"} {
			if out, err := p.Try("ip route get " + to); err != nil || !strings.Contains(out, want) {
				t.Errorf("to %s: %s, want %s", to, out, want)
			}
		}
	}
	by("via ") // an internal network is no way out, whatever its priority
	by("dev eth1")
	w.ok(w.d.Disconnect(t.Context(), endpoints[1]))
	by("dev eth0")
	p.Run("busybox ping -c1 -W3 192.0.2.9")
	w.ok(w.d.Disconnect(t.Context(), endpoints[0]))
	if out, err := p.Try("ip route get 192.0.2.9"); err == nil {
		t.Errorf("no way is left, and there is one: %s", out)
	}
}

// TestOthersRefuse: another table refuses what doesn't carry our mark, as firewalld
// does with what it doesn't know.
func TestOthersRefuse(t *testing.T) {
	for mark, want := range map[uint32]string{0: "no", 0x2000: "yes"} {
		w := newWorld(t)
		d, err := bridge.Open(bridge.Config{Namespace: w.host.Path, AcceptMark: mark})
		w.ok(err)
		w.d = d
		n := networks()["a"]
		w.ok(w.d.Create(t.Context(), n))
		w.connect(n, 1)
		w.serve("out", 80)
		w.host.Run(`nft add table inet others
nft 'add chain inet others forward { type filter hook forward priority filter + 10; policy drop; }'
nft add rule inet others forward meta mark and 0x2000 == 0x2000 accept`)
		for _, c := range [][2]string{{"a1", "out:80"}, {"out", "host:8001"}} {
			// Over IPv6: over IPv4 too, but it waits for another two seconds.
			if have := w.asks(c[0], c[1], 1, want); have != want {
				t.Errorf("mark %#x: %s to %s: %s, want %s", mark, c[0], c[1], have, want)
			}
		}
		w.ok(w.d.Close())
	}
}

// TestNoRouter: a host that forwarded nothing forwards our networks' packets and no
// others.
func TestNoRouter(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	far := networktest.NewPlace(t)
	networktest.Join(w.host, far, [2]string{"lan0", "eth0"}, [2][]string{{"198.51.100.1/24"}, {"198.51.100.9/24"}})
	far.Run("ip route add default via 198.51.100.1")
	w.places["out"].Run("ip route add 198.51.100.0/24 via 192.0.2.1")
	w.ok(w.d.Create(t.Context(), networks()["a"]))
	if f := w.host.Run("cat /proc/sys/net/ipv4/ip_forward"); f != "1\n" {
		t.Fatalf("forwarding is %s", f)
	}
	if out, err := far.Try("busybox ping -c1 -W1 192.0.2.9"); err == nil {
		t.Errorf("the host has become a router: %s", out)
	}
	w.host.Run("nft flush set inet orlop unrouted")
	w.host.Run("for i in $(seq 300); do nft list set inet orlop unrouted | grep -q ipv4 && exit 0; sleep 0.01; done; exit 1")
}

// TestTwoDaemons: a daemon that has made the host forward closes it to others, but not
// to the networks of a second daemon.
func TestTwoDaemons(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	all := networks()
	w.ok(w.d.Create(t.Context(), all["a"]))
	second, err := bridge.Open(bridge.Config{Mark: "second", Namespace: w.host.Path, Report: func(err error) { t.Log(err) }})
	w.ok(err)
	defer second.Close()
	w.ok(second.Create(t.Context(), all["b"]))
	p := networktest.NewPlace(t)
	e, err := second.Connect(t.Context(), networktest.EndpointOf(all["b"], 1, p))
	w.ok(err)
	if out, err := p.Try("busybox ping -c1 -W2 192.0.2.9"); err != nil {
		t.Errorf("the first daemon keeps the second one's sandbox from the world: %s", out)
	}
	w.ok(second.Disconnect(t.Context(), e))
	w.ok(second.Remove(t.Context(), all["b"].ID))
}
