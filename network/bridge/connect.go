package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/firewall"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// portName is the name of an endpoint's end on the host.
func portName(endpoint string) string { return "ov" + endpoint[:12] }

// Connect implements [network.Driver].
func (d *Driver) Connect(ctx context.Context, e network.Endpoint) (network.Endpoint, error) {
	if err := e.Check(); err != nil {
		return e, err
	}
	b := d.network(e.Network)
	if b == nil {
		return e, fmt.Errorf("network %q: %w", e.Network, errdefs.ErrNotFound)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.index == 0 {
		return e, fmt.Errorf("network %q: %w", e.Network, errdefs.ErrNotFound)
	}
	if err := b.begin(e.ID); err != nil {
		return e, err
	}
	h, err := d.connect(ctx, b, e)
	b.emu.Lock()
	defer b.emu.Unlock()
	if err != nil {
		delete(b.endpoints, e.ID)
		return e, fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	b.endpoints[e.ID] = h
	return h.Endpoint, nil
}

// begin takes an endpoint's place.
func (b *bridged) begin(id string) error {
	b.emu.Lock()
	defer b.emu.Unlock()
	if _, ok := b.endpoints[id]; ok {
		return fmt.Errorf("endpoint %q: %w", id, errdefs.ErrAlreadyExists)
	}
	b.endpoints[id] = nil
	return nil
}

// connect does all of it, or nothing.
func (d *Driver) connect(ctx context.Context, b *bridged, e network.Endpoint) (*held, error) {
	sandbox, err := namespace.Open(e.Sandbox)
	if err != nil {
		return nil, err
	}
	defer sandbox.Close()
	if e.MAC == nil {
		e.MAC = network.MACOf(e.Addresses)
	}
	h := &held{Endpoint: e}
	if h.ports, err = d.hold(b, &h.Endpoint, nil); err != nil {
		return nil, err
	}
	// The rules stand before there is anything that they are about.
	rules := b.endpointRules(&h.Endpoint)
	if err = d.fw.SetEndpoint(ctx, rules); err == nil {
		err = d.wire(b, &h.Endpoint, sandbox)
	}
	if err != nil {
		closePorts(h.ports)
		return nil, errors.Join(err, d.rt.Do(rtnl.DelLink(rules.Port)), d.fw.RemoveEndpoint(context.Background(), rules))
	}
	// A flow that isn't forgotten goes by the proxy: worse, and no reason to fail.
	if err := d.forget(&h.Endpoint, false); err != nil {
		d.config.Report(err)
	}
	drain(h.ports)
	d.serve(b, h)
	return h, nil
}

// wire makes the veth and what belongs to it in the sandbox.
func (d *Driver) wire(b *bridged, e *network.Endpoint, sandbox *namespace.Namespace) error {
	var rt *rtnl.Conn
	err := sandbox.Do(func() (err error) {
		if err = sandboxSysctls(b.IPv6 && e.Address(true).IsValid()); err == nil {
			rt, err = rtnl.Open(nil)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer rt.Close()
	port := portName(e.ID)
	attributes := rtnl.Byte(rtnl.PortHairpin, 1)
	if b.Options.Separate {
		attributes = append(attributes, isolated(e)...)
	}
	err = d.rt.Do(rtnl.NewLink(rtnl.Link{Name: port, Kind: "veth", MTU: b.Options.MTU, Master: b.index, Up: true,
		Peer: &rtnl.Link{Name: e.Interface, MTU: b.Options.MTU, MAC: e.MAC, Namespace: sandbox.FD()}}),
		rtnl.SetLink(rtnl.Link{Name: port, Alias: d.alias(e.ID), Port: attributes}))
	if err != nil {
		return err
	}
	link, err := rt.Link(e.Interface)
	if err != nil {
		return err
	}
	return rt.Do(b.inside(e, link.Index)...)
}

// inside is what makes an interface in a sandbox ready.
func (b *bridged) inside(e *network.Endpoint, index int) []rtnl.Message {
	out := []rtnl.Message{
		rtnl.SetLink(rtnl.Link{Index: 1, Name: "lo", Up: true}),
		// Its driver refuses to bring up an end that has no other yet, so this can't
		// be said when it is made.
		rtnl.SetLink(rtnl.Link{Index: index, Name: e.Interface, Up: true}),
	}
	for _, a := range slices.Concat(e.Addresses, e.LinkLocal) {
		out = append(out, rtnl.NewAddress(index, a))
	}
	if b.Internal {
		return out
	}
	for _, v6 := range []bool{false, true} {
		if gateway := b.Gateway(v6); gateway.IsValid() && e.Address(v6).IsValid() {
			out = append(out, rtnl.DefaultRoute(index, gateway, v6, e.Metric))
		}
	}
	return out
}

// endpointRules are what the firewall is told of a completed endpoint.
func (b *bridged) endpointRules(e *network.Endpoint) firewall.Endpoint {
	out := firewall.Endpoint{Network: b.rules(), Port: portName(e.ID), MAC: e.MAC, Strict: !b.Options.AllowSpoofing && len(e.MAC) == 6,
		Separate: b.Options.Separate, Links: linksOf(e)}
	for _, a := range slices.Concat(e.Addresses, e.LinkLocal) {
		out.Addresses = append(out.Addresses, a.Addr())
	}
	for _, p := range e.Ports {
		for _, a := range b.hostAddresses(p) {
			target := target(e, a)
			if !target.IsValid() {
				continue
			}
			switch {
			case b.mode(target) == network.Routed && target.Is4() == a.Is4():
				// The port is the sandbox's own.
				p.Host, a = p.Container, target
			case e.Elsewhere(a):
				continue
			}
			out.Published = append(out.Published, firewall.Published{
				Protocol: p.Protocol, Address: a, Port: p.Host, To: netip.AddrPortFrom(target, p.Container)})
		}
	}
	return out
}

// Disconnect implements [network.Driver].
func (d *Driver) Disconnect(_ context.Context, e network.Endpoint) error {
	if err := e.Check(); err != nil {
		return err
	}
	b := d.network(e.Network)
	if b == nil {
		return d.rt.Do(rtnl.DelLink(portName(e.ID)))
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.emu.Lock()
	h, known := b.endpoints[e.ID]
	b.emu.Unlock()
	if known && h == nil {
		return fmt.Errorf("endpoint %q is being connected: %w", e.ID, errdefs.ErrUnavailable)
	}
	if known {
		e = h.Endpoint
		closePorts(h.ports)
	}
	// The link goes before the rules that hold it.
	d.removeLink(portName(e.ID), e.Sandbox)
	if err := errors.Join(d.unlink(b, e.ID), d.fw.RemoveEndpoint(context.Background(), b.endpointRules(&e))); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	if err := d.forget(&e, true); err != nil {
		d.config.Report(err)
	}
	b.emu.Lock()
	delete(b.endpoints, e.ID)
	b.emu.Unlock()
	return nil
}
