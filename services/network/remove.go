package network

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

// Remove removes a network that nobody is connected to.
func (s *Service) Remove(ctx context.Context, ref string) error {
	r, err := s.beginRemove(ref)
	if err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		delete(s.leaving, r.ID)
		s.mu.Unlock()
	}()
	// The record goes first: what it named is removed by the next start if this is
	// cut off.
	if err := s.config.Store.DeleteNetwork(context.WithoutCancel(ctx), r.ID); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	if driver := s.config.Drivers[r.Driver]; driver != nil && !r.ConfigOnly { // with one that is off, nothing is there
		err = driver.Remove(context.WithoutCancel(ctx), r.ID)
	}
	s.mu.Lock()
	delete(s.networks, r.ID)
	s.mu.Unlock()
	if perr := s.releasePools(r); err == nil {
		err = perr
	}
	s.tell("destroy", r, "")
	return err
}

// beginRemove keeps others from connecting to a network.
func (s *Service) beginRemove(ref string) (port.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(ref)
	if err != nil {
		return r, err
	}
	if r.Predefined {
		return r, refuse(errdefs.ErrPermissionDenied, "%s is a pre-defined network and cannot be removed", r.Name)
	}
	if names := s.dependents(r); names != "" {
		return r, refuse(errdefs.ErrPermissionDenied, "configuration network %q is in use by %s", r.Name, names)
	}
	if s.leaving[r.ID] {
		return r, refuse(errdefs.ErrNotFound, "network %s not found", ref)
	}
	var users []string
	for _, b := range s.sandboxes {
		if e := b.endpoint(r.ID); e != nil {
			users = append(users, fmt.Sprintf("name:%q id:%q", b.Name, e.ID[:12]))
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		return r, refuse(errdefs.ErrPermissionDenied, "error while removing network: network %s has active endpoints (%s)", r.Name, strings.Join(users, ", "))
	}
	s.leaving[r.ID] = true
	return r, nil
}

// Unused are the networks of people's own that nobody is connected to.
func (s *Service) Unused() []port.Record {
	s.mu.Lock()
	used := map[string]bool{}
	for _, b := range s.sandboxes {
		for _, e := range b.Endpoints {
			used[e.Network] = true
		}
	}
	for _, r := range s.networks {
		if s.dependents(r) != "" {
			used[r.ID] = true
		}
	}
	out := slices.Collect(maps.Values(s.networks))
	s.mu.Unlock()
	return slices.DeleteFunc(out, func(r port.Record) bool { return r.Predefined || used[r.ID] })
}
