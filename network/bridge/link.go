package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/firewall"
	"github.com/orlop/orlop/network/rtnl"
)

// The ports of separate sandboxes are kept from each other by the bridge itself, and
// by the firewall. The bridge lets an endpoint with links through, and the firewall
// alone decides about it.

var _ network.Linker = (*Driver)(nil)

// linksOf are the links of an endpoint as the firewall knows them.
func linksOf(e *network.Endpoint) []firewall.Link {
	var out []firewall.Link
	for _, l := range e.Linked {
		out = append(out, firewall.Link{From: portName(e.ID), To: portName(l.Endpoint), Services: l.Ports})
	}
	return out
}

// isolated is whether the bridge keeps an endpoint from the others.
func isolated(e *network.Endpoint) []byte {
	if len(e.Linked) > 0 {
		return rtnl.Byte(rtnl.PortIsolated, 0)
	}
	return rtnl.Byte(rtnl.PortIsolated, 1)
}

// SetLinks implements [network.Linker].
func (d *Driver) SetLinks(ctx context.Context, e network.Endpoint, links []network.Link) error {
	b := d.network(e.Network)
	if b == nil {
		return fmt.Errorf("network %q: %w", e.Network, errdefs.ErrNotFound)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.emu.Lock() // so that no endpoint goes between the look and the rules
	defer b.emu.Unlock()
	h := b.endpoints[e.ID]
	switch {
	case h == nil:
		return fmt.Errorf("endpoint %q: %w", e.ID, errdefs.ErrNotFound)
	case !b.Options.Separate:
		return nil // they reach each other anyway
	}
	now := h.Endpoint
	now.Linked = slices.DeleteFunc(slices.Clone(links), func(l network.Link) bool { return b.endpoints[l.Endpoint] == nil })
	if err := now.Check(); err != nil {
		return err
	}
	return d.relink(ctx, h, now)
}

// relink makes the links of an endpoint what they are to be: the firewall first. Its
// network's endpoints are locked.
func (d *Driver) relink(ctx context.Context, h *held, now network.Endpoint) error {
	if err := d.fw.SetLinks(ctx, linksOf(&h.Endpoint), linksOf(&now)); err != nil {
		return fmt.Errorf("endpoint %q: links: %w", h.ID, err)
	}
	h.Endpoint = now
	port := portName(h.ID)
	return d.rt.Do(rtnl.SetLink(rtnl.Link{Name: port, Port: isolated(&now)}))
}

// unlink ends the links to an endpoint that goes.
func (d *Driver) unlink(b *bridged, id string) error {
	if !b.Options.Separate {
		return nil
	}
	b.emu.Lock()
	defer b.emu.Unlock()
	var errs []error
	for _, h := range b.endpoints {
		if h == nil || h.ID == id || !slices.ContainsFunc(h.Linked, leadsTo(id)) {
			continue
		}
		now := h.Endpoint
		now.Linked = slices.DeleteFunc(slices.Clone(now.Linked), leadsTo(id))
		errs = append(errs, d.relink(context.Background(), h, now))
	}
	return errors.Join(errs...)
}

func leadsTo(id string) func(network.Link) bool {
	return func(l network.Link) bool { return l.Endpoint == id }
}

// forgetLinks forgets links to endpoints that aren't among these.
func forgetLinks(all []network.Endpoint) {
	there := map[string]bool{}
	for _, e := range all {
		there[e.ID] = true
	}
	for i := range all {
		all[i].Linked = slices.DeleteFunc(slices.Clone(all[i].Linked), func(l network.Link) bool { return !there[l.Endpoint] })
	}
}
