package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/firewall"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// Reconcile implements [network.Driver].
func (d *Driver) Reconcile(ctx context.Context, s network.State) error {
	var errs []error
	if len(s.Networks) == 0 {
		errs = append(errs, d.stopForwarding(nil)) // the firewall's note goes next
	}
	live := d.live(s.Endpoints)
	if err := d.replaceRules(ctx, s.Networks, live); err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, n := range s.Networks {
		recorded[d.alias(n.ID)] = true
		errs = append(errs, d.Create(ctx, n))
	}
	for _, e := range live {
		recorded[d.alias(e.ID)] = true
		errs = append(errs, d.takeOver(ctx, e))
	}
	errs = append(errs, d.sweep(recorded))
	return errors.Join(errs...)
}

// live are the endpoints whose sandbox is there.
func (d *Driver) live(all []network.Endpoint) []network.Endpoint {
	var out []network.Endpoint
	for _, e := range all {
		if ns, err := namespace.Open(e.Sandbox); err == nil && e.Check() == nil {
			ns.Close()
			out = append(out, e)
		}
	}
	forgetLinks(out)
	return out
}

// replaceRules sets the firewall before anything else: there is no moment in which
// what is recorded doesn't hold.
func (d *Driver) replaceRules(ctx context.Context, networks []network.Network, endpoints []network.Endpoint) error {
	known := map[string]*bridged{}
	var (
		n []firewall.Network
		e []firewall.Endpoint
	)
	for _, x := range networks {
		if check(&x) != nil {
			continue // Create tells
		}
		b := &bridged{Network: x, name: x.Options.Bridge}
		if b.name == "" {
			b.name = "br-" + x.ID[:12]
		}
		known[x.ID] = b
		n = append(n, b.rules())
	}
	for i := range endpoints {
		if b := known[endpoints[i].Network]; b != nil {
			e = append(e, b.endpointRules(&endpoints[i]))
		}
	}
	return d.fw.Replace(ctx, n, e)
}

// takeOver goes on with an endpoint whose interface is there, and connects one again
// whose interface isn't.
func (d *Driver) takeOver(ctx context.Context, e network.Endpoint) error {
	b := d.network(e.Network)
	if b == nil {
		return fmt.Errorf("endpoint %q: network %q: %w", e.ID, e.Network, errdefs.ErrNotFound)
	}
	link, err := d.rt.Link(portName(e.ID))
	if err == nil {
		err = d.mend(b, &e)
	}
	if errdefs.IsNotFound(err) {
		return d.again(ctx, b, e)
	}
	if err != nil {
		return err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if link.Master != b.index {
		if err := d.rt.Do(rtnl.SetLink(rtnl.Link{Index: link.Index, Name: link.Name, Master: b.index, Up: true})); err != nil {
			return err
		}
	}
	if b.begin(e.ID) != nil {
		return nil // this daemon has it already
	}
	h := &held{Endpoint: e}
	// A port that somebody took meanwhile is told of; the kernel still translates.
	h.ports, err = d.hold(b, &h.Endpoint, nil)
	h.Endpoint.Ports = e.Ports
	d.serve(b, h)
	b.emu.Lock()
	b.endpoints[e.ID] = h
	b.emu.Unlock()
	return err
}

// mend does in the sandbox what a crash left undone. It returns ErrNotFound if there
// is no interface.
func (d *Driver) mend(b *bridged, e *network.Endpoint) error {
	sandbox, err := namespace.Open(e.Sandbox)
	if err != nil {
		return err
	}
	defer sandbox.Close()
	rt, err := rtnl.Open(sandbox)
	if err != nil {
		return err
	}
	defer rt.Close()
	link, err := rt.Link(e.Interface)
	if err != nil {
		return err
	}
	messages := b.inside(e, link.Index)
	for i := range messages {
		messages[i] = messages[i].Unless(errExists)
	}
	return rt.Do(messages...)
}

// again connects an endpoint of which the record is all that is left.
func (d *Driver) again(ctx context.Context, b *bridged, e network.Endpoint) error {
	b.emu.Lock()
	h := b.endpoints[e.ID]
	delete(b.endpoints, e.ID)
	b.emu.Unlock()
	if h != nil {
		closePorts(h.ports)
	}
	// Its end on the host may be there without the other.
	if err := d.rt.Do(rtnl.DelLink(portName(e.ID))); err != nil {
		return err
	}
	_, err := d.Connect(ctx, e)
	return err
}

// sweep removes the interfaces that carry our mark and aren't recorded.
func (d *Driver) sweep(recorded map[string]bool) error {
	links, err := d.rt.Links()
	if err != nil {
		return err
	}
	var remove []rtnl.Message
	for _, l := range links {
		if strings.HasPrefix(l.Alias, d.alias("")) && !recorded[l.Alias] {
			remove = append(remove, rtnl.DelLink(l.Name))
		}
	}
	if err := d.rt.Do(remove...); err != nil {
		return err
	}
	d.drop(recorded)
	return nil
}

// drop drops what this daemon knows and the records don't.
func (d *Driver) drop(recorded map[string]bool) {
	d.mu.Lock()
	networks := maps.Clone(d.networks)
	maps.DeleteFunc(d.networks, func(id string, _ *bridged) bool { return !recorded[d.alias(id)] })
	d.mu.Unlock()
	for _, b := range networks {
		b.emu.Lock()
		for id, h := range b.endpoints {
			if h != nil && !recorded[d.alias(id)] {
				closePorts(h.ports)
				delete(b.endpoints, id)
			}
		}
		b.emu.Unlock()
	}
}
