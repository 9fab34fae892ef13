package network

import (
	"net/netip"
	"strings"
	"testing"

	port "github.com/orlop/orlop/network"
)

// TestPlan: by way of which networks a sandbox publishes at the host's addresses, and
// where its ports are open without them. Networks are 4, 6 and d of both families, r of
// both and routed, i internal; the first has the default route.
func TestPlan(t *testing.T) {
	for _, c := range []struct{ networks, want string }{
		{"4", "4:46"},
		{"6", "6:46"},
		{"d", "d:46"},
		{"i", "i:-"},
		{"4 6", "4:4 6:6"},
		{"6 4", "6:6 4:4"},
		{"4 d", "4:4 d:6"},
		{"d 4 6", "d:46 4:- 6:-"},
		{"d i", "d:46 i:-"},
		{"d r", "d:46 r:open"},
		{"r d", "r:46open d:-"},
		{"4 r", "4:4 r:6open"},
		{"6 i r", "6:6 i:- r:4open"},
	} {
		s := &Service{networks: map[string]port.Record{"r": {Network: port.Network{Options: port.Options{Gateway4: port.Routed, Gateway6: port.Routed}}}}}
		b := &sandbox{Sandbox: Sandbox{Ports: []port.Port{{Protocol: port.TCP, Container: 80}}}}
		for i, name := range strings.Fields(c.networks) {
			e := Endpoint{Internal: name == "i"}
			e.Network, e.Metric = name, uint32(i)
			if name != "6" {
				e.Addresses = append(e.Addresses, netip.MustParsePrefix("10.0.0.2/24"))
			}
			if name != "4" {
				e.Addresses = append(e.Addresses, netip.MustParsePrefix("fd00::2/64"))
			}
			b.Endpoints = append(b.Endpoints, e)
		}
		if have := planned(s, b); have != c.want {
			t.Errorf("%s: %s, want %s", c.networks, have, c.want)
		}
	}
}

// planned writes plans as the test has them.
func planned(s *Service, b *sandbox) string {
	var out []string
	for _, e := range b.Endpoints {
		s.plan(b, &e)
		text := e.Network + ":"
		switch {
		case len(e.Ports) == 0:
			text += "-"
		case !e.Elsewhere4 && !e.Elsewhere6:
			text += "46"
		case !e.Elsewhere4:
			text += "4"
		case !e.Elsewhere6:
			text += "6"
		}
		if len(e.Ports) > 0 && e.Network == "r" {
			text += "open"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}
