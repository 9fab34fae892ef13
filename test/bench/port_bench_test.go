package bench

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/networktest"
)

// BenchmarkPort measures a published port: from outside, which the kernel translates,
// from the host's loopback, which goes by the proxy, and for comparison the
// container's own address from the host. "stream" writes 1 MiB at a time, "echo" is a
// byte there and back, "dial" a connection with that.
func BenchmarkPort(b *testing.B) {
	host, out, box := networktest.NewPlace(b), networktest.NewPlace(b), networktest.NewPlace(b)
	networktest.Join(host, out, [2]string{"wan", "wan"}, [2][]string{{"10.98.0.1/24"}, {"10.98.0.2/24"}})
	d, err := bridge.Open(bridge.Config{Namespace: host.Path})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	n := network.Network{ID: "bbbb00000002", Name: "bench", IPv4: true, Pools: []network.Pool{
		{Subnet: netip.MustParsePrefix("10.91.0.0/16"), Gateway: netip.MustParseAddr("10.91.0.1")}}}
	if err := d.Create(b.Context(), n); err != nil {
		b.Fatal(err)
	}
	e := networktest.EndpointOf(n, 1, box)
	e.Ports = []network.Port{{Protocol: network.TCP, Container: 81, Host: 8081}, {Protocol: network.TCP, Container: 80, Host: 8080}}
	if e, err = d.Connect(b.Context(), e); err != nil {
		b.Fatal(err)
	}
	serveTCP(b, box, ":80", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	serveTCP(b, box, ":81", func(c net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 16))
	})
	for _, way := range []struct {
		name         string
		from         *namespace.Namespace
		stream, echo string
	}{
		{"translated", out.NS, "10.98.0.1:8080", "10.98.0.1:8081"},
		{"proxy", host.NS, "127.0.0.1:8080", "127.0.0.1:8081"},
		{"direct", host.NS, e.Address(false).String() + ":80", e.Address(false).String() + ":81"},
	} {
		b.Run("stream/"+way.name, func(b *testing.B) { benchStream(b, way.from, way.stream) })
		b.Run("echo/"+way.name, func(b *testing.B) {
			c := dialIn(b, way.from, way.echo)
			defer c.Close()
			for b.Loop() {
				echoOnce(b, c)
			}
		})
		b.Run("dial/"+way.name, func(b *testing.B) {
			for b.Loop() {
				c := dialIn(b, way.from, way.echo)
				echoOnce(b, c)
				c.Close()
			}
		})
	}
}

func benchStream(b *testing.B, from *namespace.Namespace, to string) {
	c := dialIn(b, from, to)
	defer c.Close()
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// serveTCP serves each connection in a place until the benchmark ends.
func serveTCP(b *testing.B, p *networktest.Place, at string, fn func(net.Conn)) {
	b.Helper()
	var l net.Listener
	err := p.NS.Do(func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fn(c)
			}()
		}
	}()
}

func dialIn(b *testing.B, ns *namespace.Namespace, to string) net.Conn {
	b.Helper()
	var c net.Conn
	err := ns.Do(func() (err error) {
		c, err = net.Dial("tcp4", to)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func echoOnce(b *testing.B, c net.Conn) {
	b.Helper()
	var one [1]byte
	if _, err := c.Write(one[:]); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, one[:]); err != nil {
		b.Fatal(err)
	}
}
