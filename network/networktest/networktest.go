// Package networktest holds the tests that every driver passes that connects
// sandboxes by interfaces, and the places in which they run: namespaces of the
// tests' own, one of which plays the host.
//
//	func TestDriver(t *testing.T) {
//		networktest.Run(t, networktest.Setup{…})
//	}
//
// They need root and the programs ip, nft and busybox.
package networktest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

// Setup is what a driver's tests need to know.
type Setup struct {
	// Open opens the driver with a place as its host. A second one may be opened
	// for the same host when the first is closed.
	Open func(t *testing.T, host *Place) network.Driver
	// Prepare makes on the host what the networks need; may be nil.
	Prepare func(host *Place)
	// KeepsUnrecorded says that what a crash left between Connect and its record
	// stays until its sandbox ends.
	KeepsUnrecorded bool
	// Network is a configuration with IPv4 and IPv6 and one pool of each.
	Network network.Network
}

// Run tests a driver.
func Run(t *testing.T, setup Setup) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"networks come and go", (*suite).networks},
		{"unknown things", (*suite).unknown},
		{"a sandbox gets what was asked for", (*suite).interfaces},
		{"sandboxes reach each other", (*suite).neighbours},
		{"connected while it runs, and disconnected", (*suite).hot},
		{"the sandbox ends first", (*suite).sandboxEnds},
		{"names that are taken", (*suite).taken},
		{"a network in use stays", (*suite).inUse},
		{"a new daemon takes over", (*suite).takeOver},
		{"what isn't recorded goes", (*suite).unrecorded},
		{"what is recorded comes again", (*suite).comesAgain},
		{"side by side", (*suite).concurrent},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t, Setup: setup, ctx: t.Context(), host: NewPlace(t)}
			if s.Prepare != nil {
				s.Prepare(s.host)
			}
			before := s.host.Snapshot()
			s.d = s.Open(t, s.host)
			t.Cleanup(func() { s.d.Close() })
			c.run(s)
			s.again() // what a driver does in the background is done when it is closed
			if after := s.host.Snapshot(); after != before && !t.Failed() {
				t.Errorf("left on the host:\n%s\n\nbefore:\n%s", after, before)
			}
		})
	}
}

type suite struct {
	*testing.T
	Setup
	ctx  context.Context
	host *Place
	d    network.Driver
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// endpoint is the n-th of the network.
func (s *suite) endpoint(n int, sandbox *Place) network.Endpoint {
	return EndpointOf(s.Network, n, sandbox)
}

// EndpointOf is the n-th endpoint of a network, with the n-th addresses behind the
// gateways.
func EndpointOf(of network.Network, n int, sandbox *Place) network.Endpoint {
	e := network.Endpoint{ID: fmt.Sprintf("%s%08x", of.ID[:4], n), Network: of.ID, Sandbox: sandbox.Path, Interface: "eth0"}
	for _, p := range of.Pools {
		a := p.Subnet.Addr().Next()
		for range n {
			a = a.Next()
		}
		e.Addresses = append(e.Addresses, netip.PrefixFrom(a, p.Subnet.Bits()))
	}
	return e
}

func (s *suite) connect(e network.Endpoint) network.Endpoint {
	s.Helper()
	out, err := s.d.Connect(s.ctx, e)
	s.ok(err)
	return out
}

func (s *suite) networks() {
	for range 2 {
		s.ok(s.d.Create(s.ctx, s.Network))
		s.ok(s.d.Create(s.ctx, s.Network))
		s.ok(s.d.Remove(s.ctx, s.Network.ID))
		s.ok(s.d.Remove(s.ctx, s.Network.ID))
	}
}

func (s *suite) unknown() {
	e := s.endpoint(1, NewPlace(s))
	if _, err := s.d.Connect(s.ctx, e); !errdefs.IsNotFound(err) {
		s.Errorf("unknown network: %v", err)
	}
	s.ok(s.d.Disconnect(s.ctx, e))
	s.ok(s.d.Create(s.ctx, s.Network))
	s.ok(s.d.Disconnect(s.ctx, e))
	e.Sandbox += "-not"
	if _, err := s.d.Connect(s.ctx, e); !errdefs.IsNotFound(err) {
		s.Errorf("no sandbox: %v", err)
	}
	e.Sandbox = "/dev/null"
	if _, err := s.d.Connect(s.ctx, e); !errdefs.IsInvalidArgument(err) {
		s.Errorf("no sandbox: %v", err)
	}
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) interfaces() {
	s.ok(s.d.Create(s.ctx, s.Network))
	place := NewPlace(s)
	e := s.connect(s.endpoint(1, place))
	have := place.Run("ip addr show eth0")
	for _, want := range []string{e.MAC.String(), e.Addresses[0].String(), e.Addresses[1].String(), "UP"} {
		if !strings.Contains(have, want) {
			s.Errorf("no %s in %s", want, have)
		}
	}
	for line := range strings.Lines(have) { // the kernel's own link-local address is none that was asked for
		if strings.Contains(line, "tentative") && !strings.Contains(line, "scope link") {
			s.Errorf("an address can't be used yet: %s", have)
		}
	}
	if v4, v6 := place.Run("ip route"), place.Run("ip -6 route"); !strings.Contains(v4, "default via "+s.Network.Gateway(false).String()) ||
		!strings.Contains(v6, "default via "+s.Network.Gateway(true).String()) {
		s.Errorf("routes: %s%s", v4, v6)
	}
	if ra := place.Run("cat /proc/sys/net/ipv6/conf/eth0/accept_ra"); ra != "0\n" {
		s.Errorf("accept_ra is %s", ra)
	}
	s.ok(s.d.Disconnect(s.ctx, e))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) neighbours() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a, b := NewPlace(s), NewPlace(s)
	x, y := s.connect(s.endpoint(1, a)), s.connect(s.endpoint(2, b))
	for _, v6 := range []bool{false, true} {
		a.Run("busybox ping -c1 -W3 " + y.Address(v6).String())
		b.Run("busybox ping -c1 -W3 " + x.Address(v6).String())
	}
	s.ok(s.d.Disconnect(s.ctx, x))
	s.ok(s.d.Disconnect(s.ctx, y))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) hot() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a := NewPlace(s)
	a.Serve("sleep 1000")
	for range 3 {
		e := s.connect(s.endpoint(1, a))
		s.ok(s.d.Disconnect(s.ctx, e))
		s.ok(s.d.Disconnect(s.ctx, e))
		if out, err := a.Try("ip link show eth0"); err == nil {
			s.Fatalf("still there: %s", out)
		}
	}
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) sandboxEnds() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a := NewPlace(s)
	e := s.connect(s.endpoint(1, a))
	a.Leave()
	s.ok(s.d.Disconnect(s.ctx, e))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) taken() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a := NewPlace(s)
	e := s.connect(s.endpoint(1, a))
	if _, err := s.d.Connect(s.ctx, e); !errdefs.IsAlreadyExists(err) {
		s.Errorf("connected twice: %v", err)
	}
	if _, err := s.d.Connect(s.ctx, s.endpoint(2, a)); !errdefs.IsAlreadyExists(err) {
		s.Errorf("a second eth0: %v", err)
	}
	bad := s.endpoint(3, a)
	bad.Interface = "../eth0"
	if _, err := s.d.Connect(s.ctx, bad); !errdefs.IsInvalidArgument(err) {
		s.Errorf("odd name: %v", err)
	}
	s.ok(s.d.Disconnect(s.ctx, e))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) inUse() {
	s.ok(s.d.Create(s.ctx, s.Network))
	e := s.connect(s.endpoint(1, NewPlace(s)))
	if err := s.d.Remove(s.ctx, s.Network.ID); !errdefs.IsFailedPrecondition(err) {
		s.Errorf("removed under an endpoint: %v", err)
	}
	s.ok(s.d.Disconnect(s.ctx, e))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

// again is a new daemon.
func (s *suite) again() {
	s.Helper()
	s.ok(s.d.Close())
	s.d = s.Open(s.T, s.host)
}

func (s *suite) takeOver() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a, b := NewPlace(s), NewPlace(s)
	x, y := s.connect(s.endpoint(1, a)), s.connect(s.endpoint(2, b))
	index := a.Run("cat /sys/class/net/eth0/ifindex 2>/dev/null; ip -o link show eth0")
	s.again()
	state := network.State{Networks: []network.Network{s.Network}, Endpoints: []network.Endpoint{x, y}}
	for range 2 {
		s.ok(s.d.Reconcile(s.ctx, state))
	}
	if now := a.Run("cat /sys/class/net/eth0/ifindex 2>/dev/null; ip -o link show eth0"); now != index {
		s.Errorf("the interface was made again: %s, %s", index, now)
	}
	// A crash in the middle of Connect leaves an interface without an address.
	a.Run("ip addr flush dev eth0; ip link set eth0 down")
	s.again()
	s.ok(s.d.Reconcile(s.ctx, state))
	a.Run("busybox ping -c1 -W3 " + y.Address(false).String())
	if v4 := a.Run("ip route"); !strings.Contains(v4, "default via") {
		s.Errorf("no default route: %s", v4)
	}
	if err := s.d.Remove(s.ctx, s.Network.ID); !errdefs.IsFailedPrecondition(err) {
		s.Errorf("removed under an endpoint: %v", err)
	}
	s.ok(s.d.Disconnect(s.ctx, x))
	s.ok(s.d.Disconnect(s.ctx, y))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

// unrecorded is a crash before the records were written, and a sandbox that ended
// while no daemon was there.
func (s *suite) unrecorded() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a, b := NewPlace(s), NewPlace(s)
	s.connect(s.endpoint(1, a))
	y := s.connect(s.endpoint(2, b))
	s.again()
	b.Leave()
	s.ok(s.d.Reconcile(s.ctx, network.State{Networks: []network.Network{s.Network}, Endpoints: []network.Endpoint{y}}))
	if out, err := a.Try("ip link show eth0"); err == nil && !s.KeepsUnrecorded {
		s.Errorf("an unrecorded endpoint stayed: %s", out)
	}
	s.again()
	s.ok(s.d.Reconcile(s.ctx, network.State{}))
}

// comesAgain is a host that lost everything but the sandboxes.
func (s *suite) comesAgain() {
	s.ok(s.d.Create(s.ctx, s.Network))
	a, b := NewPlace(s), NewPlace(s)
	x, y := s.connect(s.endpoint(1, a)), s.connect(s.endpoint(2, b))
	for _, p := range []*Place{a, b} {
		p.Run("ip link del eth0")
	}
	s.again()
	s.ok(s.d.Reconcile(s.ctx, network.State{Networks: []network.Network{s.Network}, Endpoints: []network.Endpoint{x, y}}))
	a.Run("busybox ping -c1 -W3 " + y.Address(false).String())
	s.ok(s.d.Disconnect(s.ctx, x))
	s.ok(s.d.Disconnect(s.ctx, y))
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}

func (s *suite) concurrent() {
	s.ok(s.d.Create(s.ctx, s.Network))
	places := make([]*Place, 6)
	for i := range places {
		places[i] = NewPlace(s)
	}
	var work sync.WaitGroup
	for i, p := range places {
		work.Go(func() {
			for range 4 {
				e, err := s.d.Connect(s.ctx, s.endpoint(i+1, p))
				if err != nil {
					s.Error(err)
					return
				}
				if err := s.d.Disconnect(s.ctx, e); err != nil {
					s.Error(err)
				}
			}
		})
	}
	work.Wait()
	s.ok(s.d.Remove(s.ctx, s.Network.ID))
}
