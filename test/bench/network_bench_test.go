package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/dns"
	"github.com/orlop/orlop/network/networktest"
)

// BenchmarkNetwork measures what a bridged network adds to a container's start and
// end. The budget for both is 5 ms (ten sandboxes are connected at the time).
func BenchmarkNetwork(b *testing.B) {
	for _, c := range []struct {
		name  string
		ports int
		v6    bool
	}{{"plain", 0, false}, {"v6", 0, true}, {"1 port", 1, false}, {"100 ports", 100, false}} {
		b.Run(c.name, func(b *testing.B) { benchNetwork(b, c.ports, c.v6) })
	}
}

func benchNetwork(b *testing.B, ports int, v6 bool) {
	host := networktest.NewPlace(b)
	d, err := bridge.Open(bridge.Config{Namespace: host.Path})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	n := network.Network{ID: "bbbb00000001", Name: "bench", IPv4: true, IPv6: v6, Pools: []network.Pool{
		{Subnet: netip.MustParsePrefix("10.91.0.0/16"), Gateway: netip.MustParseAddr("10.91.0.1")}}}
	if v6 {
		n.Pools = append(n.Pools, network.Pool{Subnet: netip.MustParsePrefix("fd00:91::/64"), Gateway: netip.MustParseAddr("fd00:91::1")})
	}
	if err := d.Create(b.Context(), n); err != nil {
		b.Fatal(err)
	}
	for i := range 10 {
		if _, err := d.Connect(b.Context(), networktest.EndpointOf(n, 1000+i, networktest.NewPlace(b))); err != nil {
			b.Fatal(err)
		}
	}
	table := dns.NewTable()
	var connect, disconnect, resolver time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		p := networktest.NewPlace(b)
		e := networktest.EndpointOf(n, i%900+1, p)
		e.Names = []string{fmt.Sprint("c", i)}
		for j := range ports {
			e.Ports = append(e.Ports, network.Port{Protocol: network.TCP, Container: uint16(1000 + j)})
		}
		b.StartTimer()
		at := time.Now()
		if e, err = d.Connect(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		connect += time.Since(at)
		at = time.Now()
		table.Add(n, e)
		r, err := dns.Open(dns.Config{Sandbox: p.Path, Table: table})
		if err != nil {
			b.Fatal(err)
		}
		resolver += time.Since(at)
		at = time.Now()
		table.Remove(e)
		if err := d.Disconnect(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		disconnect += time.Since(at)
		r.Close()
	}
	for name, sum := range map[string]time.Duration{"connect": connect, "disconnect": disconnect, "resolver": resolver} {
		b.ReportMetric(float64(sum.Microseconds())/float64(b.N), name+"-µs/op")
	}
}
