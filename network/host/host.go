// Package host is the driver for sandboxes that are the host's own namespace: there
// is nothing to connect.
package host

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

// Driver implements [network.Driver]. It keeps nothing.
type Driver struct{}

// New makes the driver.
func New() Driver { return Driver{} }

// Create implements [network.Driver]. It refuses subnets.
func (Driver) Create(_ context.Context, n network.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	if len(n.Pools) > 0 || n.Internal {
		return fmt.Errorf("network %q: the host's network has no subnets of ours: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Remove implements [network.Driver].
func (Driver) Remove(context.Context, string) error { return nil }

// Connect implements [network.Driver]. Published ports are dropped, as the Engine
// does: whatever the sandbox opens is open.
func (Driver) Connect(_ context.Context, e network.Endpoint) (network.Endpoint, error) {
	if len(e.Addresses) > 0 {
		return e, fmt.Errorf("endpoint %q: the host's network gives no addresses: %w", e.ID, errdefs.ErrInvalidArgument)
	}
	e.Ports, e.Interface = nil, ""
	return e, nil
}

// Disconnect implements [network.Driver].
func (Driver) Disconnect(context.Context, network.Endpoint) error { return nil }

// Reconcile implements [network.Driver].
func (Driver) Reconcile(context.Context, network.State) error { return nil }

// Close implements [network.Driver].
func (Driver) Close() error { return nil }
