package bridge_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// TestPublish: what an endpoint publishes changes while it is connected. A connection by
// the proxy of a port that stays goes on; after an error everything is as before.
func TestPublish(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	d := w.d.(network.Publisher)
	n := networks()["a"]
	w.ok(d.Create(t.Context(), n))
	p := networktest.NewPlace(t)
	w.places["x"], w.address["x"] = p, [2]netip.Addr{}
	e := networktest.EndpointOf(n, 1, p)
	first := network.Port{Protocol: network.TCP, Container: 80, Host: 8001}
	second := network.Port{Protocol: network.TCP, Container: 81, Host: 8002}
	e.Ports = []network.Port{first}
	e, err := d.Connect(t.Context(), e)
	w.ok(err)
	w.serve("x", 80)
	w.serve("x", 81)
	var kept net.Conn
	w.ok(w.host.NS.Do(func() (err error) { kept, err = net.Dial("tcp4", "127.0.0.1:8001"); return err }))
	defer kept.Close()
	want := func(when string, answers ...string) {
		t.Helper()
		for i, q := range []struct {
			from, to string
			family   int
		}{{"out", "host:8001", 0}, {"out", "host:8001", 1}, {"host", "lo:8001", 0}, {"host", "lo:8001", 1}, {"out", "host:8002", 0}} {
			if have := w.asks(q.from, q.to, q.family, answers[i]); have != answers[i] {
				t.Errorf("%s: %s to %s over IPv%d: %s, want %s", when, q.from, q.to, 4+2*q.family, have, answers[i])
			}
		}
	}
	want("at first", "yes", "yes", "yes", "yes", "no")
	e.Ports, e.Elsewhere6 = []network.Port{first, second}, true
	e, err = d.Publish(t.Context(), e)
	w.ok(err)
	want("another port, at IPv4 alone", "yes", "no", "yes", "no", "yes")

	var others net.Listener
	w.ok(w.host.NS.Do(func() (err error) { others, err = net.Listen("tcp6", "[::]:8002"); return err }))
	defer others.Close()
	now := e
	now.Elsewhere6 = false
	if _, err := d.Publish(t.Context(), now); !errdefs.IsConflict(err) {
		t.Errorf("a port that somebody has: %v", err)
	}
	want("after an error", "yes", "no", "yes", "no", "yes")

	_, _ = kept.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_ = kept.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := kept.Read(make([]byte, 4)); n != 4 {
		t.Errorf("the connection from before was cut: %v", err)
	}
	e.Ports = nil
	e, err = d.Publish(t.Context(), e)
	w.ok(err)
	want("nothing", "no", "no", "no", "no", "no")
	w.ok(d.Disconnect(t.Context(), e))
	if _, err := d.Publish(t.Context(), e); !errdefs.IsNotFound(err) {
		t.Errorf("an endpoint that isn't connected: %v", err)
	}
}
