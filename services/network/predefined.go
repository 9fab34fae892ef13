package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/ipam"
)

// Names of the networks that are always there.
const (
	Bridge = "bridge"
	Host   = "host"
	None   = "none"
)

func predefined(name string) bool {
	return name == Bridge || name == Host || name == None || name == "default"
}

// defaultMTU is shown for the default network, of which the kernel's is taken.
const defaultMTU = 1500

// load reads the records, adds the networks that are always there and takes over
// what runs.
func (s *Service) load(ctx context.Context) error {
	all, err := s.config.Store.ListNetworks(ctx)
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, r := range all {
		if r.Name == Bridge && s.config.Default.None {
			continue
		}
		if r.Name == Bridge {
			r, err = s.adjust(ctx, r)
		} else {
			err = s.takeRecorded(r)
		}
		if err != nil {
			s.config.Report(err)
		}
		s.networks[r.ID] = r
		have[r.Name] = true
	}
	for _, name := range []string{Bridge, Host, None} {
		if have[name] || name == Bridge && s.config.Default.None {
			continue
		}
		if err := s.predefine(ctx, name); err != nil {
			return err
		}
	}
	return s.reconcile(ctx)
}

// takeRecorded takes a recorded network's subnets.
func (s *Service) takeRecorded(r port.Record) error {
	var errs []error
	if r.ConfigOnly {
		return nil
	}
	for _, p := range r.Pools {
		if _, err := s.pools.TakePool(ipam.Request{Pool: p, NoGateway: !p.Gateway.IsValid()}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// predefine records one of the networks that are always there. The default bridge
// has its subnet from now on; its device is made when it is first used.
func (s *Service) predefine(ctx context.Context, name string) error {
	r := port.Record{Created: time.Now().UTC().Round(0), Predefined: true, Given: map[string]string{}}
	r.ID, r.Name, r.Driver, r.IPv4 = newID(), name, name, true
	if name == Bridge {
		r = s.defaultRecord(r)
		if err := s.takePools(&r, s.config.Default.pools()); err != nil {
			return err
		}
	}
	if err := s.config.Store.CreateNetwork(ctx, r); err != nil {
		return err
	}
	s.networks[r.ID] = r
	return nil
}

// first is the state of the default bridge, which is made when it is first used.
type first struct {
	mu   sync.Mutex
	made bool
}

// ensure makes the default bridge, if it is that. If its subnet has been taken by
// others since it was chosen, another is.
func (s *Service) ensure(ctx context.Context, r port.Record) (port.Record, error) {
	if r.Name != Bridge {
		return r, nil
	}
	s.first.mu.Lock()
	defer s.first.mu.Unlock()
	if s.first.made {
		return s.Find(r.ID)
	}
	driver, err := s.driver(r)
	if err != nil {
		return r, err
	}
	avoid, err := routes()
	if err != nil {
		return r, err
	}
	if len(s.config.Default.pools()) == 0 && overlaps(r, avoid) {
		if r, err = s.move(ctx, r); err != nil {
			return r, err
		}
	}
	if err := driver.Create(ctx, r.Network); err != nil {
		return r, err
	}
	s.first.made = true
	return r, nil
}

// makeDefault makes the default bridge.
func (s *Service) makeDefault(ctx context.Context) error {
	r, err := s.Find(Bridge)
	if err == nil {
		_, err = s.ensure(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("default network: %w", err)
	}
	return nil
}

// unmake removes the default bridge's device if nobody is on it.
func (s *Service) unmake() error {
	s.first.mu.Lock()
	defer s.first.mu.Unlock()
	if s.config.Default.None || s.config.Default.Kept {
		return nil
	}
	r, err := s.Find(Bridge)
	if err != nil || !s.first.made || len(s.Connected(r.ID)) > 0 {
		return err
	}
	s.first.made = false
	return s.config.Drivers[r.Driver].Remove(context.Background(), r.ID)
}

// move gives a network that nobody uses another subnet.
func (s *Service) move(ctx context.Context, r port.Record) (port.Record, error) {
	old := r
	r.Pools = nil
	if err := s.takePools(&r, nil); err != nil {
		return old, err
	}
	if err := s.config.Store.UpdateNetwork(ctx, r); err != nil {
		return old, errors.Join(err, s.releasePools(r))
	}
	s.mu.Lock()
	s.networks[r.ID] = r
	s.mu.Unlock()
	return r, s.releasePools(old)
}

// overlaps tells whether others have a route to one of a network's subnets.
func overlaps(r port.Record, routes []netip.Prefix) bool {
	return slices.ContainsFunc(r.Pools, func(p port.Pool) bool {
		return slices.ContainsFunc(routes, func(a netip.Prefix) bool { return a.Bits() > 0 && a.Overlaps(p.Subnet) })
	})
}
