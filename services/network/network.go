// Package network is the use-cases of networks: they are made, listed and removed,
// and sandboxes, the network namespaces of containers, are connected to them.
//
// # Who keeps what
//
// A network is a record in the metadata database. What is connected to it is a file
// for each sandbox in the state folder, which lives as long as the kernel that has
// its interfaces: after a reboot there is neither. What a container would like to be
// connected to is its owner's to keep, and comes with [Service.Prepare].
//
// # A sandbox's life
//
//	Prepare ── Connect ── Join, Part … ── Leave
//
// Prepare makes the namespace and chooses the addresses, so that the owner can write
// its files and make the task while Connect does the work. Connect writes the
// sandbox's file when all is done, before it tells anybody. A daemon that is killed
// in between leaves interfaces with a mark and a namespace that no file names: the
// next start removes both. Leave unmounts the namespace first, with which the kernel
// takes the interfaces, and removes the file last, so that a Leave that was cut off
// comes again.
//
// # Locks
//
// A sandbox's op is held while it is connected or left; then come Service.mu, which
// guards all tables, and the locks of addresses, names and drivers. Nothing is waited
// for under Service.mu.
package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/dns"
	"github.com/orlop/orlop/network/ipam"
)

// Config is how the service is set up.
type Config struct {
	// State is a folder for what lives until a reboot.
	State string
	// Bridge is the name of the default network's device; "" is orlop0.
	Bridge string
	// Default is how the default network is set up.
	Default Default
	// Pools are the address spaces of networks that name no subnet; none is the
	// usual ones.
	Pools []ipam.Base
	// Local is the /48 of fd00::/8 of which IPv6 subnets are cut; the zero value
	// draws one.
	Local netip.Prefix
	// Options are those of new networks that don't say.
	Options OptionDefaults
	// Naming is how sandboxes find names that don't say it themselves.
	Naming Naming
	// HostGateway is where sandboxes reach the host; none is the gateway of their network.
	HostGateway []netip.Addr
	// Drivers make networks real, by name.
	Drivers map[string]port.Driver
	// Store keeps networks.
	Store port.Store
	// Ready is how many namespaces are kept ready; 0 is none.
	Ready int
	// Report hears of what went wrong in the background.
	Report func(error)
}

// Record is a network as it is kept.
type Record = port.Record

// Pool is a subnet of a network.
type Pool = port.Pool

// Port is a published port.
type Port = port.Port

// Event is something that happened to a network.
type Event struct {
	// Action is create, connect, disconnect or destroy.
	Action string
	// Network is which.
	Network port.Record
	// Sandbox is the one that was connected or disconnected.
	Sandbox string
}

// Service is the networks of a host. It is safe for concurrent use.
type Service struct {
	config Config
	pools  *ipam.Allocator
	names  *dns.Table
	ready  *ready
	first  first
	hosts  hostServers

	mu        sync.Mutex
	networks  map[string]port.Record // by ID
	making    map[string]bool        // names of networks that are being made
	leaving   map[string]bool        // IDs of networks that are being removed
	sandboxes map[string]*sandbox
	notify    func(Event)
}

// Open takes up what an earlier daemon has left.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.Report == nil {
		c.Report = func(error) {}
	}
	if c.Bridge == "" {
		c.Bridge = "orlop0"
	}
	pools, err := ipam.New(ipam.Config{Bases: c.Pools})
	if err != nil {
		return nil, err
	}
	if c.Local.IsValid() {
		if err := pools.Import(fmt.Appendf(nil, `{"local":%q}`, c.Local)); err != nil {
			return nil, err
		}
	}
	s := &Service{config: c, pools: pools, names: dns.NewTable(), networks: map[string]port.Record{}, making: map[string]bool{},
		leaving: map[string]bool{}, sandboxes: map[string]*sandbox{}, notify: func(Event) {}}
	for _, dir := range []string{s.spaceFolder(), s.ownersFolder(), s.recordFolder()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	s.ready = newReady(c.Ready, c.Report)
	if c.Default.Kept {
		if err := s.makeDefault(ctx); err != nil {
			c.Report(err) // it is tried again for a container
		}
	}
	return s, nil
}

func (s *Service) spaceFolder() string  { return filepath.Join(s.config.State, "ns") }
func (s *Service) recordFolder() string { return filepath.Join(s.config.State, "sandboxes") }

// Close lets go of everything; what is connected stays so. The default bridge goes if
// nobody is on it, unless it is kept.
func (s *Service) Close() error {
	s.ready.close()
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.sandboxes))
	s.mu.Unlock()
	var errs []error
	for _, b := range all {
		b.op.Lock()
		errs = append(errs, b.closeResolver())
		b.op.Unlock()
	}
	return errors.Join(append(errs, s.unmake())...)
}

// Notify sets who hears of events. It must not block.
func (s *Service) Notify(fn func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify = fn
}

func (s *Service) tell(action string, n port.Record, sandbox string) {
	s.mu.Lock()
	fn := s.notify
	s.mu.Unlock()
	fn(Event{action, n, sandbox})
}

// Find finds a network by its ID, its name or the beginning of its ID.
func (s *Service) Find(ref string) (port.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(ref)
}

// find is called with mu held.
func (s *Service) find(ref string) (port.Record, error) {
	if n, ok := s.networks[ref]; ok {
		return n, nil
	}
	var found []port.Record
	for _, n := range s.networks {
		if n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return port.Record{}, refuse(errdefs.ErrNotFound, "network %s not found", ref)
	}
	return port.Record{}, refuse(errdefs.ErrInvalidArgument, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

// List returns all networks, the oldest first.
func (s *Service) List() []port.Record {
	s.mu.Lock()
	out := slices.Collect(maps.Values(s.networks))
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b port.Record) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// Connected returns the endpoints of a network, by sandbox.
func (s *Service) Connected(id string) map[string]Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Endpoint{}
	for _, b := range s.sandboxes {
		for _, e := range b.Endpoints {
			if e.Network == id {
				out[b.ID] = e
			}
		}
	}
	return out
}

// Naming is what sandboxes get that don't say how they find names.
func (s *Service) Naming() Naming { return s.config.Naming }

// Drivers are the names of the drivers, sorted.
func (s *Service) Drivers() []string { return slices.Sorted(maps.Keys(s.config.Drivers)) }

// driver is what makes a network real. Its plugin may be off.
func (s *Service) driver(r port.Record) (port.Driver, error) {
	if d := s.config.Drivers[r.Driver]; d != nil {
		return d, nil
	}
	return nil, refuse(errdefs.ErrUnavailable, "network %s: the driver %s is not available: see orlopctl plugins ls", r.Name, r.Driver)
}
