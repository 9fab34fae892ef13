package network

import (
	"context"
	"net/netip"
)

// Publisher is a [Driver] that changes what a connected endpoint publishes.
type Publisher interface {
	Driver
	// Publish makes the ports of a connected endpoint those of e, and returns it completed
	// as Connect does. A port that stays keeps its connections. On error what was published
	// before still is. It returns ErrNotFound for an endpoint that isn't connected.
	Publish(ctx context.Context, e Endpoint) (Endpoint, error)
}

// Elsewhere tells whether another endpoint publishes at an address of the host.
func (e *Endpoint) Elsewhere(host netip.Addr) bool {
	if host.Is4() {
		return e.Elsewhere4
	}
	return e.Elsewhere6
}
