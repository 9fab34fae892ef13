// Package none is the driver for sandboxes that are alone: they get their loopback
// and nothing else.
package none

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
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
	if len(n.Pools) > 0 {
		return fmt.Errorf("network %q: nobody is in it: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Remove implements [network.Driver].
func (Driver) Remove(context.Context, string) error { return nil }

// Connect implements [network.Driver].
func (Driver) Connect(_ context.Context, e network.Endpoint) (network.Endpoint, error) {
	if len(e.Addresses)+len(e.Ports) > 0 {
		return e, fmt.Errorf("endpoint %q: no network, no addresses and ports: %w", e.ID, errdefs.ErrInvalidArgument)
	}
	ns, err := namespace.Open(e.Sandbox)
	if err != nil {
		return e, err
	}
	defer ns.Close()
	rt, err := rtnl.Open(ns)
	if err != nil {
		return e, err
	}
	defer rt.Close()
	e.Interface = "lo"
	return e, rt.Do(rtnl.SetLink(rtnl.Link{Index: 1, Name: "lo", Up: true}))
}

// Disconnect implements [network.Driver].
func (Driver) Disconnect(context.Context, network.Endpoint) error { return nil }

// Reconcile implements [network.Driver].
func (Driver) Reconcile(context.Context, network.State) error { return nil }

// Close implements [network.Driver].
func (Driver) Close() error { return nil }
