package macvlan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/macvlan"
	"github.com/orlop/orlop/network/networktest"
)

var home = network.Network{
	ID: "2222aaaa0000bbbb", Name: "lan", Driver: "macvlan", IPv4: true, IPv6: true,
	Pools: []network.Pool{
		{Subnet: netip.MustParsePrefix("10.90.1.0/24"), Gateway: netip.MustParseAddr("10.90.1.1")},
		{Subnet: netip.MustParsePrefix("fd00:90:1::/64"), Gateway: netip.MustParseAddr("fd00:90:1::1")},
	},
	Options: network.Options{Parent: "wan0"},
}

func opener(kind macvlan.Kind) func(t *testing.T, host *networktest.Place) network.Driver {
	return func(t *testing.T, host *networktest.Place) network.Driver {
		d, err := macvlan.Open(macvlan.Config{Kind: kind, Namespace: host.Path})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
}

func wire(host *networktest.Place) {
	host.Run("ip link add wan0 type veth peer name wan1 && ip link set wan0 up && ip link set wan1 up && sleep 0.1")
}

func TestDriver(t *testing.T) {
	networktest.Run(t, networktest.Setup{Open: opener(macvlan.Macvlan), Prepare: wire, Network: home, KeepsUnrecorded: true})
}

func TestDriverIpvlan(t *testing.T) {
	host := networktest.NewPlace(t)
	wire(host)
	d := opener(macvlan.Ipvlan)(t, host)
	defer d.Close()
	if err := d.Create(t.Context(), home); err != nil {
		t.Fatal(err)
	}
	_, err := d.Connect(t.Context(), networktest.EndpointOf(home, 1, networktest.NewPlace(t)))
	if errdefs.IsNotImplemented(err) {
		t.Skipf("as it should be: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	networktest.Run(t, networktest.Setup{Open: opener(macvlan.Ipvlan), Prepare: wire, Network: home, KeepsUnrecorded: true})
}

// TestNoParent: a network without a parent is between its sandboxes, and leaves nothing.
func TestNoParent(t *testing.T) {
	host, a, b := networktest.NewPlace(t), networktest.NewPlace(t), networktest.NewPlace(t)
	before := host.Snapshot()
	n := home
	n.Options.Parent, n.Internal = "", true
	d := opener(macvlan.Macvlan)(t, host)
	ok(t, d.Create(t.Context(), n))
	state := network.State{Networks: []network.Network{n}}
	for i, p := range []*networktest.Place{a, b} {
		e, err := d.Connect(t.Context(), networktest.EndpointOf(n, i+1, p))
		ok(t, err)
		state.Endpoints = append(state.Endpoints, e)
	}
	a.Run("busybox ping -c1 -W5 10.90.1.3 && busybox ping -c1 -W5 fd00:90:1::3")
	if routes := a.Run("ip route; ip -6 route"); strings.Contains(routes, "default") {
		t.Errorf("it leads nowhere, and has a route there: %s", routes)
	}
	ok(t, d.Close())
	d = opener(macvlan.Macvlan)(t, host)
	ok(t, d.Reconcile(t.Context(), state))
	a.Run("busybox ping -c1 -W5 10.90.1.3")
	if err := d.Remove(t.Context(), n.ID); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("removed under its endpoints: %v", err)
	}
	for _, e := range state.Endpoints {
		ok(t, d.Disconnect(t.Context(), e))
	}
	ok(t, d.Remove(t.Context(), n.ID))
	same(t, host, before)
	// One that a crash has left before its record.
	ok(t, d.Create(t.Context(), n))
	ok(t, d.Close())
	d = opener(macvlan.Macvlan)(t, host)
	ok(t, d.Reconcile(t.Context(), network.State{}))
	same(t, host, before)
	host.Run("ip link add dm-" + n.ID[:12] + " type veth peer name other")
	if err := d.Create(t.Context(), n); !errdefs.IsAlreadyExists(err) {
		t.Errorf("took somebody's interface: %v", err)
	}
	ok(t, d.Close())
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, host *networktest.Place, before string) {
	t.Helper()
	if after := host.Snapshot(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// TestWire: the wire is reached and reaches, the host isn't and doesn't; in private
// mode not even neighbours.
func TestWire(t *testing.T) {
	for mode, neighbours := range map[string]bool{"bridge": true, "private": false} {
		t.Run(mode, func(t *testing.T) {
			host, out, a, b := networktest.NewPlace(t), networktest.NewPlace(t), networktest.NewPlace(t), networktest.NewPlace(t)
			networktest.Join(host, out, [2]string{"wan0", "eth0"}, [2][]string{{"10.90.1.7/24"}, {"10.90.1.1/24", "fd00:90:1::1/64"}})
			d := opener(macvlan.Macvlan)(t, host)
			defer d.Close()
			n := home
			n.Options.Mode = mode
			if err := d.Create(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			for i, p := range []*networktest.Place{a, b} {
				if _, err := d.Connect(t.Context(), networktest.EndpointOf(n, i+1, p)); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []struct {
				from *networktest.Place
				to   string
				want bool
			}{
				{a, "10.90.1.1", true}, {a, "fd00:90:1::1", true}, {out, "10.90.1.2", true}, {out, "fd00:90:1::2", true},
				{a, "10.90.1.7", false}, {host, "10.90.1.2", false},
				{a, "10.90.1.3", neighbours}, {a, "fd00:90:1::3", neighbours},
			} {
				wait := map[bool]string{true: "5", false: "1"}[c.want]
				if out, err := c.from.Try("busybox ping -c1 -W" + wait + " " + c.to); (err == nil) != c.want {
					t.Errorf("to %s: %s", c.to, out)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	host := networktest.NewPlace(t)
	d := opener(macvlan.Macvlan)(t, host)
	defer d.Close()
	if err := d.Create(t.Context(), home); !errdefs.IsNotFound(err) {
		t.Errorf("no parent: %v", err)
	}
	for _, spoil := range []func(*network.Options){
		func(o *network.Options) { o.Parent = "" },
		func(o *network.Options) { o.Mode = "l2" },
		func(o *network.Options) { o.Bridge = "br0" },
	} {
		n := home
		spoil(&n.Options)
		if err := d.Create(t.Context(), n); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", n.Options, err)
		}
	}
}
