package network

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Join connects a running sandbox to one more network. Its default route stays where
// it is unless the new network has a higher priority.
func (s *Service) Join(ctx context.Context, id string, w Wish) (Sandbox, error) {
	b, err := s.hold(id)
	if err != nil {
		return Sandbox{}, err
	}
	defer b.op.Unlock()
	e, err := s.choose(ctx, b, w)
	if err != nil {
		return Sandbox{}, err
	}
	s.mu.Lock()
	x := b.endpoint(e.Network)
	x.Metric = port.Metric(x.Priority, b.place(x))
	b.nameInterfaces()
	e = *x
	s.mu.Unlock()
	if err = s.republish(ctx, b, e.Network); err == nil {
		err = s.connect(ctx, b, e)
	}
	if err == nil {
		err = s.openResolver(b)
	}
	if err == nil {
		err = s.save(b)
	}
	if err != nil {
		return Sandbox{}, errors.Join(err, s.leaveOne(b, e.Network), s.republish(context.WithoutCancel(ctx), b, ""))
	}
	s.tellEndpoint("connect", e, id)
	out, _ := s.Sandbox(id)
	return out, nil
}

// place is a new connection's place among those of its priority. Called with
// Service.mu held.
func (b *sandbox) place(x *Endpoint) int {
	for place := 0; ; place++ {
		m := port.Metric(x.Priority, place)
		if !slices.ContainsFunc(b.Endpoints, func(e Endpoint) bool { return e.Network != x.Network && e.Metric == m }) {
			return place
		}
		if place >= MaxEndpoints {
			return place
		}
	}
}

// Part disconnects a running sandbox from one network. What was published by way of
// it is published by the next.
func (s *Service) Part(ctx context.Context, id, network string) (Sandbox, error) {
	r, err := s.Find(network)
	if err != nil {
		return Sandbox{}, err
	}
	b, err := s.hold(id)
	if err != nil {
		return Sandbox{}, err
	}
	defer b.op.Unlock()
	s.mu.Lock()
	x := b.endpoint(r.ID)
	s.mu.Unlock()
	if x == nil {
		return Sandbox{}, refuse(errdefs.ErrPermissionDenied, "container %s is not connected to network %s", id, r.Name)
	}
	err = errors.Join(s.leaveOne(b, r.ID), s.republish(ctx, b, ""), s.save(b))
	if err != nil {
		return Sandbox{}, err
	}
	s.tell("disconnect", r, id)
	out, _ := s.Sandbox(id)
	return out, nil
}

// leaveOne undoes one connection. Called with op held.
func (s *Service) leaveOne(b *sandbox, network string) error {
	s.mu.Lock()
	x := b.endpoint(network)
	if x == nil {
		s.mu.Unlock()
		return nil
	}
	e := *x
	s.mu.Unlock()
	if err := s.disconnect(e); err != nil {
		return err
	}
	s.mu.Lock()
	b.Endpoints = slices.DeleteFunc(slices.Clone(b.Endpoints), func(e Endpoint) bool { return e.Network == network })
	s.mu.Unlock()
	s.releaseAddresses(e)
	return nil
}

// Rename changes what others call a sandbox.
func (s *Service) Rename(id, old, name string) error {
	b, err := s.hold(id)
	if err != nil {
		return nil
	}
	defer b.op.Unlock()
	s.mu.Lock()
	b.Name = name
	b.Endpoints = slices.Clone(b.Endpoints)
	var renamed []Endpoint
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		if j := slices.Index(e.Names, old); j >= 0 {
			e.Names = slices.Clone(e.Names)
			e.Names[j] = name
			renamed = append(renamed, *e)
		}
	}
	s.mu.Unlock()
	for _, e := range renamed {
		if r, err := s.Find(e.Network); err == nil {
			s.names.Add(r.Network, e.Endpoint)
		}
	}
	return s.save(b)
}
