package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
)

// resolvers is how many resolvers are opened at once at the start.
const resolvers = 16

// reconcile takes over what runs, and removes what a crash has left. What can't be
// mended is reported: the daemon starts all the same.
func (s *Service) reconcile(ctx context.Context) error {
	if err := s.loadSandboxes(); err != nil {
		return err
	}
	s.sweepSpaces()
	for name, d := range s.config.Drivers {
		if err := d.Reconcile(ctx, s.stateOf(name)); err != nil {
			s.config.Report(fmt.Errorf("networks of the driver %s: %w", name, err))
		}
	}
	var g errgroup.Group
	g.SetLimit(resolvers)
	for _, b := range s.sandboxes {
		for _, e := range b.Endpoints {
			if r, ok := s.networks[e.Network]; ok {
				s.names.Add(r.Network, e.Endpoint)
			}
		}
		if b.Resolver {
			g.Go(func() error {
				if err := s.openResolver(b); err != nil {
					s.config.Report(fmt.Errorf("resolver of container %s: %w", b.Name, err))
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// stateOf is what is recorded of one driver. The default bridge is not among it
// while nobody uses it.
func (s *Service) stateOf(driver string) port.State {
	var out port.State
	for _, b := range s.sandboxes {
		for _, e := range b.Endpoints {
			r := s.networks[e.Network]
			if r.Driver == driver {
				out.Endpoints = append(out.Endpoints, e.Endpoint)
			}
			s.first.made = s.first.made || r.Name == Bridge
		}
	}
	for _, r := range s.networks {
		if r.Driver == driver && !r.ConfigOnly && (r.Name != Bridge || s.first.made) {
			out.Networks = append(out.Networks, r.Network)
		}
	}
	return out
}

// loadSandboxes reads the sandboxes' files. One whose namespace is gone, or that
// can't be read, is forgotten: its interfaces are gone or have no record.
func (s *Service) loadSandboxes() error {
	entries, err := os.ReadDir(s.recordFolder())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := s.recordPath(entry.Name())
		b, err := s.readSandbox(entry.Name())
		if err != nil {
			s.config.Report(fmt.Errorf("sandbox %s is forgotten: %w", entry.Name(), err))
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		s.sandboxes[b.ID] = b
	}
	return nil
}

func (s *Service) readSandbox(name string) (*sandbox, error) {
	if strings.HasSuffix(name, partial) {
		return nil, errors.New("it was being written")
	}
	data, err := os.ReadFile(s.recordPath(name))
	if err != nil {
		return nil, err
	}
	b := &sandbox{found: true, connected: true}
	if err := json.Unmarshal(data, &b.Sandbox); err != nil {
		return nil, err
	}
	if b.ID != name || b.Path != s.spacePath(name) {
		return nil, fmt.Errorf("it names %q at %q", b.ID, b.Path)
	}
	for i := range b.Endpoints { // an earlier version's file names them there alone
		if len(b.Ports) == 0 {
			b.Ports = b.Endpoints[i].Ports
		}
	}
	ns, err := namespace.Open(b.Path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	for _, e := range b.Endpoints {
		if _, ok := s.networks[e.Network]; !ok {
			continue
		}
		for _, a := range e.Addresses {
			if _, err := s.pools.Take(a.Masked(), a.Addr()); err != nil {
				s.config.Report(fmt.Errorf("container %s: %w", b.Name, err))
			}
		}
	}
	return b, nil
}

// sweepSpaces removes namespaces that no sandbox has.
func (s *Service) sweepSpaces() {
	for _, dir := range []string{s.spaceFolder(), s.ownersFolder()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			s.config.Report(err)
		}
		for _, entry := range entries {
			if s.sandboxes[entry.Name()] != nil {
				continue
			}
			if err := unmountSpace(filepath.Join(dir, entry.Name())); err != nil {
				s.config.Report(err)
			}
		}
	}
}

// Keep leaves the sandboxes of an earlier daemon whose containers are gone or don't
// run: those that were being made or left when it was killed.
func (s *Service) Keep(runs func(id string) bool) error {
	s.mu.Lock()
	var gone []*sandbox
	for id, b := range s.sandboxes {
		if b.found && !runs(id) {
			gone = append(gone, b)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, b := range gone {
		if now, err := s.hold(b.ID); err == nil {
			if now == b {
				errs = append(errs, s.drop(b))
			}
			now.op.Unlock()
		}
	}
	return errors.Join(errs...)
}
