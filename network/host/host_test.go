package host_test

import (
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/host"
)

func TestDriver(t *testing.T) {
	var d network.Driver = host.New()
	ctx := t.Context()
	n := network.Network{ID: "aaaaaaaaaaaa", IPv4: true}
	if err := d.Create(ctx, n); err != nil {
		t.Fatal(err)
	}
	e, err := d.Connect(ctx, network.Endpoint{ID: "bbbbbbbbbbbb", Network: n.ID, Ports: []network.Port{{Protocol: network.TCP, Container: 80, Host: 80}}})
	if err != nil || len(e.Ports) != 0 {
		t.Error(e, err)
	}
	e.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}
	if _, err := d.Connect(ctx, e); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	n.Pools = []network.Pool{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}
	if err := d.Create(ctx, n); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
