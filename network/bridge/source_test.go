package bridge_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/networktest"
)

// TestSource: who is outside sees the address that a network's NAT was given, of each
// family its own, and that of the interface where none was.
func TestSource(t *testing.T) {
	w := newWorld(t)
	w.d = open(t, w.host)
	defer w.d.Close()
	w.host.Run("ip addr add 192.0.2.77/32 dev wan0; ip addr add fd00:2::77/128 dev wan0 nodad preferred_lft 0")
	for _, c := range []struct {
		name   string
		change func(*network.Options)
		want   [2]string
	}{
		{"a", func(*network.Options) {}, [2]string{"192.0.2.1", "fd00:2::1"}},
		{"u", func(o *network.Options) { o.Source4 = netip.MustParseAddr("192.0.2.77") }, [2]string{"192.0.2.77", "fd00:2::1"}},
		{"s", func(o *network.Options) {
			o.Source4, o.Source6 = netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("fd00:2::77")
		}, [2]string{"192.0.2.77", "fd00:2::77"}},
	} {
		n := networks()[c.name]
		c.change(&n.Options)
		w.ok(w.d.Create(t.Context(), n))
		p := networktest.NewPlace(t)
		e, err := w.d.Connect(t.Context(), networktest.EndpointOf(n, 1, p))
		w.ok(err)
		for i, want := range c.want {
			if have := w.seen(p, w.address["out"][i]); have != want {
				t.Errorf("network %s, IPv%d: from %s, want %s", c.name, 4+2*i, have, want)
			}
		}
		w.ok(w.d.Disconnect(t.Context(), e))
		w.ok(w.d.Remove(t.Context(), n.ID))
	}
	if have := w.host.Run("nft list ruleset"); have != "" {
		t.Errorf("left behind:\n%s", have)
	}
}

// seen is where outside sees a connection from a place come from.
func (w *world) seen(from *networktest.Place, to netip.Addr) string {
	w.Helper()
	var l net.Listener
	w.ok(w.places["out"].NS.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to, 0).String())
		return err
	}))
	defer l.Close()
	w.ok(from.NS.Do(func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	}))
	c, err := l.Accept()
	w.ok(err)
	defer c.Close()
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().String()
}
