package ipam

import (
	"math"
	"net/netip"
	"testing"

	"github.com/orlop/orlop/network"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		pool network.Pool
		take string
		want Usage
	}{
		{network.Pool{Subnet: prefix("10.0.0.0/24")}, "", Usage{3, 253}},
		{network.Pool{Subnet: prefix("10.0.0.0/24")}, "10.0.0.9", Usage{4, 252}},
		{network.Pool{Subnet: prefix("10.0.0.0/31")}, "", Usage{1, 1}},
		{network.Pool{Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.0.128/31"), Gateway: addr("10.0.0.1")}, "", Usage{3, 2}},
		{network.Pool{Subnet: prefix("10.0.0.0/24"), Range: prefix("10.0.0.128/31"), Gateway: addr("10.0.0.1")}, "10.0.0.3", Usage{4, 2}},
		{network.Pool{Subnet: prefix("fd00::/64"), Range: prefix("fd00::/120"), Aux: map[string]netip.Addr{"a": addr("fd00::9"), "b": addr("fd00::1:9")}}, "", Usage{4, 253}},
		{network.Pool{Subnet: prefix("fd00::/60")}, "", Usage{2, math.MaxUint64}},
	} {
		a := open(t, Config{})
		p := take(t, a, Request{Pool: c.pool})
		if c.take != "" {
			if _, err := a.Take(p.Subnet, addr(c.take)); err != nil {
				t.Fatal(err)
			}
		}
		if have, ok := a.Usage(p.Subnet); !ok || have != c.want {
			t.Errorf("%+v and %q: %+v, want %+v", c.pool, c.take, have, c.want)
		}
	}
	if _, ok := open(t, Config{}).Usage(prefix("10.0.0.0/24")); ok {
		t.Error("a subnet that isn't taken has a usage")
	}
}
