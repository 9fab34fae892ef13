package bridge_test

import (
	"net/netip"
	"testing"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/bridge"
	"github.com/orlop/orlop/network/networktest"
)

// home is a network of both families.
var home = network.Network{
	ID: "1111aaaa0000bbbb", Name: "home", Driver: "bridge", IPv4: true, IPv6: true,
	Pools: []network.Pool{
		{Subnet: netip.MustParsePrefix("10.89.1.0/24"), Gateway: netip.MustParseAddr("10.89.1.1")},
		{Subnet: netip.MustParsePrefix("fd00:89:1::/64"), Gateway: netip.MustParseAddr("fd00:89:1::1")},
	},
}

func open(t *testing.T, host *networktest.Place) network.Driver {
	t.Helper()
	d, err := bridge.Open(bridge.Config{Namespace: host.Path, Report: func(err error) { t.Log(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDriver(t *testing.T) {
	networktest.Run(t, networktest.Setup{Open: open, Network: home})
}

func TestDriverSeparate(t *testing.T) {
	n := home
	n.Options.MTU, n.Options.Bridge, n.Options.AllowSpoofing = 1400, "orlop0", true
	networktest.Run(t, networktest.Setup{Open: open, Network: n})
}
