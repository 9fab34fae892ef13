package rtnl_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/networktest"
	"github.com/orlop/orlop/network/rtnl"
)

func open(t *testing.T, p *networktest.Place) *rtnl.Conn {
	t.Helper()
	c, err := rtnl.Open(p.NS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestBatch makes more than fits into one write, with an error in the middle that
// stops nothing.
func TestBatch(t *testing.T) {
	p := networktest.NewPlace(t)
	c := open(t, p)
	var batch []rtnl.Message
	for i := range 100 {
		batch = append(batch, rtnl.NewLink(rtnl.Link{Name: fmt.Sprint("br", i), Kind: "bridge"}))
	}
	batch = append(batch[:50], append([]rtnl.Message{batch[0], batch[1].Unless(unix.EEXIST)}, batch[50:]...)...)
	err := c.Do(batch...)
	if !errdefs.IsAlreadyExists(err) || strings.Contains(err.Error(), "br1:") || !strings.Contains(err.Error(), "br0:") {
		t.Errorf("the error: %v", err)
	}
	links, err := c.Links()
	if err != nil || len(links) != 101 {
		t.Errorf("%d links, %v", len(links), err)
	}
	batch = nil
	for i := range 100 {
		batch = append(batch, rtnl.SetLink(rtnl.Link{Name: fmt.Sprint("br", i), Group: 7}))
	}
	if err := c.Do(append(batch, rtnl.DelGroup(7))...); err != nil {
		t.Error(err)
	}
	if links, err = c.Links(); err != nil || len(links) != 1 {
		t.Errorf("%d links, %v", len(links), err)
	}
}

// TestLink: what is written is read.
func TestLink(t *testing.T) {
	p := networktest.NewPlace(t)
	c := open(t, p)
	mac := []byte{2, 0, 0, 0, 0, 9}
	err := c.Do(rtnl.NewLink(rtnl.Link{Name: "br0", Kind: "bridge", MTU: 1400, MAC: mac}),
		rtnl.SetLink(rtnl.Link{Name: "br0", Alias: "orlop:x", Up: true}))
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.Link("br0")
	if err != nil || l.Kind != "bridge" || l.MTU != 1400 || l.MAC.String() != "02:00:00:00:00:09" || l.Alias != "orlop:x" || !l.Up {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := c.Link("br1"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if err := c.Do(rtnl.DelLink("br1")); err != nil {
		t.Error(err)
	}
	v4, v6 := netip.MustParsePrefix("10.3.0.1/20"), netip.MustParsePrefix("fd00:3::1/64")
	err = c.Do(rtnl.NewAddress(l.Index, v4), rtnl.NewAddress(l.Index, v6),
		rtnl.DefaultRoute(l.Index, netip.MustParseAddr("10.3.0.9"), false, 3), rtnl.DefaultRoute(l.Index, netip.Addr{}, true, 0))
	if err != nil {
		t.Fatal(err)
	}
	// A subnet whose last bit is set: its broadcast address must not borrow from it.
	if err := c.Do(rtnl.NewAddress(l.Index, netip.MustParsePrefix("172.17.0.2/16"))); err != nil {
		t.Fatal(err)
	}
	if have := p.Run("ip addr show br0"); !strings.Contains(have, "172.17.0.2/16 brd 172.17.255.255") {
		t.Error(have)
	}
	if have := p.Run("ip addr show br0; ip route; ip -6 route"); !strings.Contains(have, "10.3.0.1/20 brd 10.3.15.255") ||
		!strings.Contains(have, "default via 10.3.0.9 dev br0 metric 3") || !strings.Contains(have, "default dev br0") {
		t.Error(have)
	}
	routes, err := c.Routes()
	if err != nil || !slices.Contains(routes, v4.Masked()) || !slices.Contains(routes, v6.Masked()) {
		t.Error(routes, err)
	}
	if slices.Contains(routes, netip.MustParsePrefix("10.3.0.1/32")) {
		t.Error("a local address counts as a route")
	}
}
