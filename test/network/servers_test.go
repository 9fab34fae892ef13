package network_test

import (
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/orlop/orlop/network/networktest"
)

// nobody serves DNS outside, where it says that there is no such name, and counts how
// often it was asked.
func nobody(t *testing.T, place *networktest.Place, address string) *atomic.Int32 {
	t.Helper()
	asked := new(atomic.Int32)
	var server *net.UDPConn
	err := place.NS.Do(func() (err error) {
		server, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(address), Port: 53})
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
			buf[2], buf[3] = buf[2]|0x80, buf[3]&0xf0|3
			_, _ = server.WriteToUDP(buf[:n], from)
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
	first, second := nobody(t, h.out, outIPv4), nobody(t, h.out, other)
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
