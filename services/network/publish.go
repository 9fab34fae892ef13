package network

import (
	"context"
	"errors"
	"slices"

	port "github.com/orlop/orlop/network"
)

// A sandbox's ports are published at the host's addresses of a family by way of the
// connection that has the default route of that family, or if none has, by that of the
// other. Where a network is routed they are open at the sandbox's own address besides,
// whichever has the route.

// plan writes down what a connection of a sandbox is to publish. Called with mu held.
func (s *Service) plan(b *sandbox, e *Endpoint) {
	way4, way6 := b.way(false), b.way(true)
	if way4 == "" {
		way4 = way6
	}
	if way6 == "" {
		way6 = way4
	}
	e.Elsewhere4, e.Elsewhere6 = e.Network != way4, e.Network != way6
	e.Ports = nil
	o := s.networks[e.Network].Options
	if !e.Internal && (!e.Elsewhere4 || !e.Elsewhere6 || o.Gateway4 == port.Routed || o.Gateway6 == port.Routed) {
		e.Ports = b.Ports
	}
	if len(b.Ports) == 0 {
		e.Elsewhere4, e.Elsewhere6 = false, false
	}
}

// way is the network by which a sandbox's packets of a family leave, empty if there is
// none. Called with Service.mu held.
func (b *sandbox) way(v6 bool) string {
	var way *Endpoint
	for i := range b.Endpoints {
		if e := &b.Endpoints[i]; e.leads(v6) && (way == nil || e.Metric < way.Metric) {
			way = e
		}
	}
	if way == nil {
		return ""
	}
	return way.Network
}

// enter writes down what became of a connection, and which of the host's ports were
// chosen: the sandbox keeps them, by way of whichever network.
func (s *Service) enter(b *sandbox, made port.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := b.endpoint(made.Network); x != nil {
		x.Endpoint = made
	}
	if len(made.Ports) == len(b.Ports) {
		b.Ports = made.Ports
	}
}

// republish has the connections of a sandbox publish what they are to publish now: those
// that lose something first. Those of except are passed over. Called with op held.
func (s *Service) republish(ctx context.Context, b *sandbox, except string) error {
	now, _ := s.Sandbox(b.ID)
	var errs []error
	for _, gains := range []bool{false, true} {
		for _, e := range now.Endpoints {
			before := e
			s.mu.Lock()
			s.plan(b, &e)
			s.mu.Unlock()
			if e.Network == except || same(&before, &e) || gaining(&before, &e) != gains {
				continue
			}
			errs = append(errs, s.publish(ctx, b, e))
		}
	}
	return errors.Join(errs...)
}

// same tells whether two states of a connection publish the same.
func same(x, y *Endpoint) bool {
	return slices.Equal(x.Ports, y.Ports) && (len(x.Ports) == 0 || x.Elsewhere4 == y.Elsewhere4 && x.Elsewhere6 == y.Elsewhere6)
}

// gaining tells whether the second of two states publishes at more of the host's addresses.
func gaining(x, y *Endpoint) bool {
	return len(x.Ports) == 0 || x.Elsewhere4 && !y.Elsewhere4 || x.Elsewhere6 && !y.Elsewhere6
}

// publish changes what one connection publishes.
func (s *Service) publish(ctx context.Context, b *sandbox, e Endpoint) error {
	r, err := s.Find(e.Network)
	if err != nil {
		return err
	}
	driver, ok := s.config.Drivers[r.Driver].(port.Publisher)
	if !ok {
		return nil // it publishes nothing
	}
	made, err := driver.Publish(ctx, e.Endpoint)
	if err != nil {
		return connectError(b, e, err)
	}
	s.enter(b, made)
	return nil
}
