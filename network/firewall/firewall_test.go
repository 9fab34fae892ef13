package firewall_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/firewall"
	"github.com/orlop/orlop/network/networktest"
)

func open(t *testing.T, p *networktest.Place) *firewall.Firewall {
	t.Helper()
	f, err := firewall.Open(firewall.Config{Namespace: p.NS, AcceptMark: 0x2000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	home = firewall.Network{Bridge: "br-home", Masquerade: true}
	one  = firewall.Endpoint{
		Network: home, Port: "ov1", Strict: true, MAC: net.HardwareAddr{2, 66, 10, 0, 0, 2},
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")},
		Published: []firewall.Published{
			{network.TCP, netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("10.0.0.2:80")},
			{network.TCP, netip.IPv6Unspecified(), 8080, netip.MustParseAddrPort("[fd00::2]:80")},
			{network.UDP, netip.MustParseAddr("192.0.2.1"), 53, netip.MustParseAddrPort("10.0.0.2:53")},
			{network.SCTP, netip.MustParseAddr("127.0.0.1"), 9, netip.MustParseAddrPort("10.0.0.2:9")},
		},
	}
)

// TestListing reads our tables with the nft program: what others see.
func TestListing(t *testing.T) {
	p := networktest.NewPlace(t)
	before := p.Snapshot()
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	ok(t, f.SetEndpoint(ctx, one))
	have := p.Run("nft list ruleset")
	for _, want := range []string{
		`tcp . 8080 : 10.0.0.2 . 80`, `tcp . 8080 : fd00::2 . 80`, `udp . 192.0.2.1 . 53 : 10.0.0.2 . 53`,
		`elements = { sctp . 9 }`, `"br-home" : goto to-nat`, `elements = { "br-home" . "br-home" }`,
		`"ov1" . 02:42:0a:00:00:02`, `"ov1" . 10.0.0.2`, `"ov1" . fe80::42:aff:fe00:2`, "elements = { 10.0.0.2 }",
		"jump orlop-user", "ct status dnat", "fib daddr type local", "masquerade", "meta mark set",
	} {
		if !strings.Contains(have, want) {
			t.Errorf("no %s in\n%s", want, have)
		}
	}
	ok(t, f.RemoveEndpoint(ctx, one))
	ok(t, f.RemoveEndpoint(ctx, one)) // again is no error
	if have := p.Run("nft list ruleset"); strings.Contains(have, "10.0.0.2") || strings.Contains(have, "ov1") {
		t.Errorf("the endpoint left something\n%s", have)
	}
	ok(t, f.RemoveNetwork(ctx, home))
	if after := p.Snapshot(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// TestUserChain: an administrator's rules outlive everything we do.
func TestUserChain(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	p.Run("nft add rule inet orlop orlop-user tcp dport 23 drop")
	ok(t, f.Replace(ctx, []firewall.Network{home}, []firewall.Endpoint{one}))
	ok(t, f.RemoveEndpoint(ctx, one))
	ok(t, f.RemoveNetwork(ctx, home))
	if have := p.Run("nft list ruleset"); !strings.Contains(have, "tcp dport 23 drop") || strings.Contains(have, "br-home") {
		t.Error(have)
	}
	p.Run("nft flush chain inet orlop orlop-user")
	ok(t, f.SetNetwork(ctx, home))
	ok(t, f.RemoveNetwork(ctx, home))
	if have := p.Run("nft list ruleset"); have != "" {
		t.Error(have)
	}
}

// TestFlush: what others remove comes again, and what they add to our sets goes.
func TestFlush(t *testing.T) {
	p := networktest.NewPlace(t)
	f := open(t, p)
	ctx, cancel := context.WithCancel(context.Background())
	ok(t, f.SetNetwork(ctx, home))
	ok(t, f.SetEndpoint(ctx, one))
	want := p.Run("nft list ruleset")
	mended := make(chan error, 16)
	done := make(chan error)
	p.Run("nft flush chain inet orlop raw") // before anybody watches
	go func() { done <- f.Watch(ctx, func(err error) { mended <- err }) }()
	ok(t, <-mended)
	for _, poke := range []string{
		"nft flush ruleset", "nft delete table bridge orlop", "nft flush chain inet orlop raw",
		"nft flush set inet orlop bridges", "nft add element inet orlop bridges '{ \"eth0\" }'",
		"nft insert rule inet orlop forward accept", "nft delete element inet orlop any4 '{ tcp . 8080 }'",
	} {
		p.Run(poke)
		select {
		case err := <-mended:
			ok(t, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("never mended after %q", poke)
		}
		if have := p.Run("nft list ruleset"); have != want {
			t.Fatalf("after %q:\n%s", poke, have)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestChangeAfterFlush: also without a watch the next change finds out.
func TestChangeAfterFlush(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	ok(t, f.SetEndpoint(ctx, one))
	want := p.Run("nft list ruleset")
	two := one
	two.Port, two.Published = "ov2", nil
	two.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.3")}
	ok(t, f.SetEndpoint(ctx, two))
	p.Run("nft flush ruleset")
	ok(t, f.RemoveEndpoint(ctx, two))
	if have := p.Run("nft list ruleset"); have != want {
		t.Error(have)
	}
}

// TestManyPorts publishes as many as may be, in one transaction.
func TestManyPorts(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	many := one
	many.Published = nil
	for i := range network.MaxPorts {
		many.Published = append(many.Published, firewall.Published{
			Protocol: network.TCP, Address: netip.IPv4Unspecified(), Port: uint16(20000 + i), To: netip.AddrPortFrom(one.Addresses[0], uint16(20000+i))})
	}
	ok(t, f.SetEndpoint(ctx, many))
	p.Run("nft flush ruleset")
	if again, err := f.Reconcile(ctx); err != nil || !again {
		t.Fatal(again, err)
	}
	if n := strings.Count(p.Run("nft list map inet orlop any4"), " : 10.0.0.2"); n != network.MaxPorts {
		t.Errorf("%d ports", n)
	}
	if again, err := f.Reconcile(ctx); err != nil || again {
		t.Fatal("set again what was there", again, err)
	}
	ok(t, f.RemoveEndpoint(ctx, many))
}

func TestRefusals(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	for _, n := range []firewall.Network{{Bridge: "a name too long"}, {Bridge: "../x"}, {Bridge: "br0", Mode4: "odd"}} {
		if err := f.SetNetwork(ctx, n); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Error(n, err)
		}
	}
	if have := p.Run("nft list ruleset"); have != "" {
		t.Error(have)
	}
}

// TestReplaced: a port that leads elsewhere replaces the one before, and an error
// changes nothing.
func TestReplaced(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	ok(t, f.SetEndpoint(ctx, one))
	moved := one
	moved.Published = []firewall.Published{{network.TCP, netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("10.0.0.2:81")}}
	ok(t, f.SetEndpoint(ctx, moved))
	want := p.Run("nft list ruleset")
	if !strings.Contains(want, "tcp . 8080 : 10.0.0.2 . 81") || strings.Contains(want, ": 10.0.0.2 . 80") {
		t.Fatal(want)
	}
	bad := one
	bad.Published = []firewall.Published{{"odd", netip.IPv4Unspecified(), 8080, netip.MustParseAddrPort("10.0.0.2:80")}}
	if err := f.SetEndpoint(ctx, bad); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
	if again, err := f.Reconcile(ctx); again || err != nil {
		t.Error(again, err)
	}
	if have := p.Run("nft list ruleset"); have != want {
		t.Error(have)
	}
}

// TestOlderLayout: tables of another version are made anew, but not over the
// administrator's rules.
func TestOlderLayout(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	ok(t, f.SetNetwork(ctx, home))
	want := p.Run("nft list ruleset")
	old := `nft flush ruleset
nft add table inet orlop
nft 'add set inet orlop bridges { type ipv4_addr; }'
nft 'add chain inet orlop forward { type filter hook forward priority 5; }'`
	p.Run(old)
	g := open(t, p)
	ok(t, g.Replace(ctx, []firewall.Network{home}, nil))
	if have := p.Run("nft list ruleset"); have != want {
		t.Errorf("%s", have)
	}
	p.Run(old + "; nft add chain inet orlop orlop-user; nft add rule inet orlop orlop-user tcp dport 23 drop")
	if err := g.Replace(ctx, []firewall.Network{home}, nil); err == nil || !strings.Contains(err.Error(), "orlop-user") {
		t.Errorf("the administrator's rules: %v", err)
	}
	if have := p.Run("nft list ruleset"); !strings.Contains(have, "tcp dport 23 drop") {
		t.Errorf("they are gone: %s", have)
	}
}

// TestTwoPortsOfOne: two of the host's ports lead to one that is open: the element that
// they share comes and goes once, and nothing is set anew for it.
func TestTwoPortsOfOne(t *testing.T) {
	p := networktest.NewPlace(t)
	f, ctx := open(t, p), context.Background()
	routed, e := home, one
	routed.Mode4 = network.Routed
	e.Network = routed
	e.Published = nil
	for _, host := range []uint16{8080, 8081} {
		e.Published = append(e.Published, firewall.Published{network.TCP, netip.IPv4Unspecified(), host, netip.MustParseAddrPort("10.0.0.2:80")})
	}
	ok(t, f.SetNetwork(ctx, routed))
	ok(t, f.SetEndpoint(ctx, e))
	p.Run("nft add rule inet orlop forward counter comment mine")
	ok(t, f.RemoveEndpoint(ctx, e))
	if have := p.Run("nft list ruleset"); !strings.Contains(have, "mine") || strings.Contains(have, "10.0.0.2") {
		t.Error(have)
	}
}
