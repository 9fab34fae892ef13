package bridge

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

var _ network.Publisher = (*Driver)(nil)

// Publish implements [network.Publisher].
func (d *Driver) Publish(ctx context.Context, e network.Endpoint) (network.Endpoint, error) {
	b := d.network(e.Network)
	if b == nil {
		return e, fmt.Errorf("network %q: %w", e.Network, errdefs.ErrNotFound)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	b.emu.Lock()
	defer b.emu.Unlock()
	h := b.endpoints[e.ID]
	if h == nil {
		return e, fmt.Errorf("endpoint %q: %w", e.ID, errdefs.ErrNotFound)
	}
	now := &held{Endpoint: h.Endpoint}
	now.Ports, now.Elsewhere4, now.Elsewhere6 = e.Ports, e.Elsewhere4, e.Elsewhere6
	if err := now.Check(); err != nil {
		return e, err
	}
	if err := d.publish(ctx, b, h, now); err != nil {
		return e, fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	b.endpoints[e.ID] = now
	return now.Endpoint, nil
}

// publish changes what is published. Its network's endpoints are locked.
func (d *Driver) publish(ctx context.Context, b *bridged, before, now *held) (err error) {
	if now.ports, err = d.hold(b, &now.Endpoint, before.ports); err != nil {
		return err
	}
	if err := d.fw.ReplaceEndpoint(ctx, b.endpointRules(&before.Endpoint), b.endpointRules(&now.Endpoint)); err != nil {
		closeOthers(now.ports, before.ports)
		return err
	}
	closeOthers(before.ports, now.ports)
	if err := d.forget(&now.Endpoint, false); err != nil {
		d.config.Report(err)
	}
	drain(now.ports)
	d.serve(b, now)
	return nil
}
