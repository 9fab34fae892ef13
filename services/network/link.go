package network

import (
	"context"
	"maps"

	port "github.com/orlop/orlop/network"
)

// Target is a sandbox that another reaches by a link.
type Target struct {
	// Sandbox is its ID.
	Sandbox string
	// Services are the ports that it exposes.
	Services []port.Service
}

// Link opens the ways from a sandbox to others on the default network, and closes those
// that were open before. Where that network's sandboxes reach each other anyway, there
// is nothing to do. Targets that aren't connected are passed over.
func (s *Service) Link(ctx context.Context, id string, targets []Target) error {
	r, err := s.Find(Bridge)
	if err != nil || !r.Options.Separate {
		return nil // there may be no default network
	}
	driver, ok := s.config.Drivers[r.Driver].(port.Linker)
	if !ok {
		return nil
	}
	b, err := s.hold(id)
	if err != nil {
		return err
	}
	defer b.op.Unlock()
	e, links := s.linked(b, r.ID, targets)
	if e == nil || len(links)+len(e.Linked) == 0 {
		return nil
	}
	if err := driver.SetLinks(ctx, e.Endpoint, links); err != nil {
		return err
	}
	s.mu.Lock()
	b.endpoint(r.ID).Linked = links
	s.mu.Unlock()
	return s.save(b)
}

// Alias changes whom a sandbox alone knows by a name of its links on a network: target is
// a name that others know as well. A sandbox that isn't connected so is passed over.
func (s *Service) Alias(id, network, alias, target string) error {
	r, err := s.Find(network)
	if err != nil || r.Name == Bridge { // whose sandboxes have no names
		return nil
	}
	b, err := s.hold(id)
	if err != nil {
		return nil
	}
	defer b.op.Unlock()
	s.mu.Lock()
	x := b.endpoint(r.ID)
	if x == nil || x.Links[alias] == target {
		s.mu.Unlock()
		return nil
	}
	links := maps.Clone(x.Links)
	if links == nil {
		links = map[string]string{}
	}
	links[alias] = target
	x.Links = links // copies of the sandbox have the old ones
	s.mu.Unlock()
	return s.save(b)
}

// linked are a sandbox's connection to a network, nil if there is none, and its links.
func (s *Service) linked(b *sandbox, network string, targets []Target) (*Endpoint, []port.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := b.endpoint(network)
	if x == nil {
		return nil, nil
	}
	e := *x
	var links []port.Link
	for _, t := range targets {
		if other := s.sandboxes[t.Sandbox]; other != nil && other != b {
			if y := other.endpoint(network); y != nil {
				links = append(links, port.Link{Endpoint: y.ID, Ports: t.Services})
			}
		}
	}
	return &e, links
}
