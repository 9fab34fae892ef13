package network_test

import (
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/orlop/orlop/network/namespace"
)

// nobody serves DNS in a place, where it says that there is no such name, and counts how
// often it was asked.
func nobody(t *testing.T, place *namespace.Namespace, address string) *atomic.Int32 {
	t.Helper()
	return serveNames(t, place, address, func(q []byte) []byte {
		q[2], q[3] = q[2]|0x80, q[3]&0xf0|3
		return q
	})
}

// somebody is a server who gives an address of either family for every name.
func somebody(t *testing.T, place *namespace.Namespace, address string) *atomic.Int32 {
	t.Helper()
	return serveNames(t, place, address, func(q []byte) []byte {
		var m dns.Msg
		if m.Unpack(q) != nil || len(m.Question) != 1 {
			return nil
		}
		m.Response, m.RecursionAvailable, m.Extra = true, true, nil
		data := map[uint16]string{dns.TypeA: " 60 IN A 203.0.113.7", dns.TypeAAAA: " 60 IN AAAA 2001:db8::7"}[m.Question[0].Qtype]
		if rr, err := dns.NewRR(m.Question[0].Name + data); err == nil && data != "" {
			m.Answer = append(m.Answer, rr)
		}
		out, _ := m.Pack()
		return out
	})
}

// serveNames serves DNS until the test ends, and counts how often it was asked.
func serveNames(t *testing.T, place *namespace.Namespace, address string, answer func([]byte) []byte) *atomic.Int32 {
	t.Helper()
	asked := new(atomic.Int32)
	var server *net.UDPConn
	err := place.Do(func() (err error) {
		server, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address), Port: 53})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := server.ReadFromUDP(buf)
			if err != nil {
				return
			}
			asked.Add(1)
			_, _ = server.WriteToUDP(answer(buf[:n]), from)
		}
	}()
	return asked
}

// TestHostServers: the host's servers change. Containers that are asked for by name ask
// the new ones at once, others find them in their resolv.conf at their next start,
// unless they have edited it.
func TestHostServers(t *testing.T) {
	const other = "10.98.0.3"
	h := newHost(t)
	before := h.place.Snapshot()
	h.out.Run("ip addr add " + other + "/24 dev wan")
	first, second := nobody(t, h.out.NS, outIPv4), nobody(t, h.out.NS, other)
	h.resolv = h.path("resolv.conf")
	change := func(server string) {
		t.Helper()
		if err := os.WriteFile(h.resolv, []byte("nameserver "+server+"\nsearch "+server+".example\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	change(outIPv4)
	h.start()
	h.image()
	h.docker("network", "create", "open")
	h.docker("run", "-d", "--name", "named", "--network", "open", "box", "sleep", "1000")
	for _, name := range []string{"plain", "edited"} {
		h.docker("run", "-d", "--name", name, "box", "sleep", "1000")
	}
	h.docker("exec", "edited", "sh", "-c", "echo '# mine' >>/etc/resolv.conf")
	ask := func(want, not *atomic.Int32) {
		t.Helper()
		want.Store(0)
		not.Store(0)
		_, _ = h.try("docker", "exec", "named", "busybox", "timeout", "3", "busybox", "nslookup", "far.example.")
		if want.Load() == 0 || not.Load() > 0 {
			t.Errorf("the right server was asked %d times, the wrong one %d times", want.Load(), not.Load())
		}
	}
	shows := func(name, want string) {
		t.Helper()
		if have := h.docker("exec", name, "cat", "/etc/resolv.conf"); !strings.Contains(have, want) {
			t.Errorf("%s: no %q in\n%s", name, want, have)
		}
	}
	ask(first, second)
	change(other)
	ask(second, first)
	shows("plain", "nameserver "+outIPv4) // until it starts again
	h.docker("restart", "-t", "0", "named", "plain", "edited")
	shows("plain", "nameserver "+other+"\nsearch "+other+".example")
	shows("edited", "nameserver "+outIPv4)
	shows("edited", "# mine")
	shows("named", "search "+other+".example")
	ask(second, first)
	h.clean(before)
}
