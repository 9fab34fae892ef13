package bridge_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// echo answers datagrams in a place with a word, who asked and what.
func echo(t *testing.T, p *networktest.Place, word string) {
	t.Helper()
	var c *net.UDPConn
	err := p.NS.Do(func() (err error) { c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 7}); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s %s", word, from.Addr(), buf[:n]), from)
		}
	}()
}

// TestDatagrams: UDP by translation, by the proxy and over IPv6 to a sandbox without.
func TestDatagrams(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	n := networks()["b"]
	w.ok(w.d.Create(t.Context(), n))
	p := networktest.NewPlace(t)
	e := networktest.EndpointOf(n, 1, p)
	e.Ports = []network.Port{{Protocol: network.UDP, Container: 7, Host: 7007}}
	_, err := w.d.Connect(t.Context(), e)
	w.ok(err)
	echo(t, p, "")
	// An answer has to come from the address that was asked: also from one that the kernel
	// wouldn't choose.
	w.host.Run("ip addr add 192.0.2.3/24 dev wan0; ip addr add fd00:2::3/64 dev wan0 nodad")
	for _, c := range [][2]string{{"out", "192.0.2.1"}, {"out", "fd00:2::1"}, {"out", "192.0.2.3"}, {"out", "fd00:2::3"},
		{"host", "127.0.0.1"}, {"host", "127.0.0.2"}, {"host", "::1"}, {"host", "192.0.2.3"}} {
		out, err := w.places[c[0]].Try("exec bash -c 'exec 3<>/dev/udp/" + c[1] + "/7007; echo hello >&3; timeout 3 head -n1 <&3'")
		if !strings.Contains(out, "hello") {
			t.Errorf("%s to %s: %q %v", c[0], c[1], out, err)
		}
	}
}

// TestDatagramsNearby: a separate sandbox reaches its neighbour's published port, and its
// own, by whichever of the host's addresses.
func TestDatagramsNearby(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	n := networks()["s"]
	w.ok(w.d.Create(t.Context(), n))
	for i := range 2 {
		p := networktest.NewPlace(t)
		w.places[fmt.Sprint("s", i+1)] = p
		e := networktest.EndpointOf(n, i+1, p)
		if i == 0 {
			e.Ports = []network.Port{{Protocol: network.UDP, Container: 7, Host: 7007}}
			echo(t, p, "")
		}
		_, err := w.d.Connect(t.Context(), e)
		w.ok(err)
	}
	for _, from := range []string{"s1", "s2"} {
		for _, a := range []string{"192.0.2.1", n.Pools[0].Gateway.String()} {
			out, err := w.places[from].Try("exec bash -c 'exec 3<>/dev/udp/" + a + "/7007; echo hello >&3; timeout 3 head -n1 <&3'")
			if !strings.Contains(out, "hello") {
				t.Errorf("%s to %s: %q %v", from, a, out, err)
			}
		}
	}
}

// TestFlows: one sender that never stops reaches a port by translation from when it
// is published, and the next sandbox after the first.
func TestFlows(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	n := networks()["b"]
	w.ok(w.d.Create(t.Context(), n))
	var sender net.Conn
	w.ok(w.places["out"].NS.Do(func() (err error) { sender, err = net.Dial("udp", "192.0.2.1:7007"); return err }))
	defer sender.Close()
	// hears sends until an answer begins with a word.
	hears := func(word string) bool {
		buf := make([]byte, 100)
		for range 500 {
			_, _ = sender.Write([]byte("x"))
			_ = sender.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := sender.Read(buf); err == nil && strings.HasPrefix(string(buf[:n]), word) {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		return false
	}
	for range 10 {
		_, _ = sender.Write([]byte("x")) // nobody is there yet
	}
	for i, word := range []string{"one", "two"} {
		p := networktest.NewPlace(t)
		e := networktest.EndpointOf(n, i+1, p)
		e.Ports = []network.Port{{Protocol: network.UDP, Container: 7, Host: 7007}}
		echo(t, p, word)
		e, err := w.d.Connect(t.Context(), e)
		w.ok(err)
		if !hears(word + " 192.0.2.9") { // by the proxy it would be the gateway
			t.Fatalf("the sender doesn't reach sandbox %s", word)
		}
		w.ok(w.d.Disconnect(t.Context(), e))
	}
}
