package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/ipam"
	"github.com/orlop/orlop/network/rtnl"
)

// MaxNetworks bounds how many networks there are.
const MaxNetworks = 4096

// Creation is a network to make.
type Creation struct {
	Name string
	// Driver is the name of a driver; "" is bridge.
	Driver string
	// IPv4 and IPv6 tell which families it has; nil is IPv4 alone.
	IPv4, IPv6 *bool
	// Pools are its subnets; a family without one gets one.
	Pools []port.Pool
	// Addressing names the address management and its options; "" and "default" are
	// the one there is.
	Addressing        string
	AddressingOptions map[string]string
	Internal          bool
	Attachable        bool
	Options           map[string]string
	Labels            map[string]string
	// ConfigOnly makes a configuration for others; ConfigFrom names the one to use.
	ConfigOnly bool
	ConfigFrom string
}

// validName keeps names of networks apart from paths and from modes such as container:x.
var validName = regexp.MustCompile(`^[^[:cntrl:]/:]{1,255}$`)

// Create makes a network.
func (s *Service) Create(ctx context.Context, c Creation) (port.Record, error) {
	if c.ConfigFrom != "" && !c.ConfigOnly {
		if err := s.applyConfiguration(&c); err != nil {
			return port.Record{}, err
		}
	}
	r, err := s.draft(&c)
	if err != nil {
		return r, err
	}
	if err := s.reserve(r.Name); err != nil {
		return r, err
	}
	defer s.free(r.Name)
	if err := checkPools(&r, c.Pools); err != nil {
		return r, err
	}
	if !r.ConfigOnly {
		if err := s.takePools(&r, c.Pools); err != nil {
			return r, err
		}
	}
	if err := s.build(ctx, r); err != nil {
		return r, err
	}
	s.mu.Lock()
	s.networks[r.ID] = r
	s.mu.Unlock()
	s.tell("create", r, "")
	return r, nil
}

// build makes a network real and records it.
func (s *Service) build(ctx context.Context, r port.Record) error {
	if r.ConfigOnly {
		return s.config.Store.CreateNetwork(ctx, r)
	}
	driver := s.config.Drivers[r.Driver] // draft has seen it
	if err := driver.Create(ctx, r.Network); err != nil {
		return errors.Join(driverError(told(err, r.ID)), s.releasePools(r))
	}
	// The record comes last: what a crash leaves before it, the next start removes.
	if err := s.config.Store.CreateNetwork(ctx, r); err != nil {
		return errors.Join(err, driver.Remove(context.WithoutCancel(ctx), r.ID), s.releasePools(r))
	}
	return nil
}

// driverError gives a driver's error the class that clients know it by.
func driverError(err error) error {
	if errdefs.IsAlreadyExists(err) {
		return refuse(errdefs.ErrPermissionDenied, "%v", err)
	}
	return err
}

// draft checks what was asked for.
func (s *Service) draft(c *Creation) (port.Record, error) {
	driver := c.Driver
	if driver == "" {
		driver = "bridge"
	}
	if !c.ConfigOnly {
		c.addDefaults(s.config.Options, driver)
	}
	r := port.Record{Created: time.Now().UTC().Round(0), Labels: c.Labels, Given: c.Options, Addressing: c.AddressingOptions,
		Attachable: c.Attachable}
	r.ID, r.Name, r.Driver, r.Internal = newID(), c.Name, driver, c.Internal
	var err error
	if r.IPv4, r.IPv6, err = families(c); err != nil {
		return r, err
	}
	r.ConfigFrom = c.ConfigFrom
	if c.ConfigOnly {
		if err := draftConfiguration(&r, c); err != nil {
			return r, err
		}
	}
	switch {
	case strings.TrimSpace(r.Name) == "" || !validName.MatchString(r.Name):
		return r, refuse(errdefs.ErrInvalidArgument, "invalid network name %q: it has 1 to 255 printable characters, none of them / or :", r.Name)
	case predefined(r.Name):
		return r, refuse(errdefs.ErrPermissionDenied, "operation is not permitted on predefined %s network ", r.Name)
	case !r.ConfigOnly && (r.Driver == "host" || r.Driver == "null" || r.Driver == "none"):
		return r, refuse(errdefs.ErrPermissionDenied, "only one instance of %q network is allowed", r.Driver)
	case s.config.Drivers[r.Driver] == nil:
		return r, refuse(errdefs.ErrNotFound, "could not find plugin %s in v1 plugin registry: plugin not found", r.Driver)
	case c.Addressing != "" && c.Addressing != "default":
		return r, refuse(errdefs.ErrNotFound, "could not find plugin %s in v1 plugin registry: plugin not found", c.Addressing)
	case !r.IPv4 && !r.IPv6:
		return r, refuse(errdefs.ErrInvalidArgument, "IPv4 or IPv6 must be enabled")
	}
	if !r.ConfigOnly { // whose options are for a driver that isn't known yet
		r.Options, err = readOptions(r.Driver, c.Options)
		// Without a parent there is a wire, but it leads nowhere.
		r.Internal = r.Internal || r.Options.Parent == "" && takesParent(r.Driver)
	}
	return r, err
}

// reserve keeps others from taking a name meanwhile.
func (s *Service) reserve(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.making[name]
	for _, n := range s.networks {
		taken = taken || n.Name == name
	}
	switch {
	case taken:
		return refuse(errdefs.ErrConflict, "network with name %s already exists", name)
	case len(s.networks)+len(s.making) >= MaxNetworks:
		return refuse(errdefs.ErrResourceExhausted, "there are %d networks, which is the most", MaxNetworks)
	}
	s.making[name] = true
	return nil
}

func (s *Service) free(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, name)
}

// takePools takes the subnets that were named, and one for each family that has
// none. On error it gives them back.
func (s *Service) takePools(r *port.Record, named []port.Pool) error {
	avoid, err := routes()
	if err != nil {
		return err
	}
	var have4, have6 bool
	for _, p := range named {
		if p.Subnet.IsValid() {
			have4, have6 = have4 || p.Subnet.Addr().Is4(), have6 || p.Subnet.Addr().Is6()
		}
	}
	var all []ipam.Request
	for _, p := range named {
		if p.Subnet.IsValid() {
			all = append(all, ipam.Request{Pool: p, IPv6: p.Subnet.Addr().Is6(), Avoid: avoid})
		}
	}
	if r.IPv4 && !have4 {
		all = append(all, ipam.Request{Avoid: avoid})
	}
	if r.IPv6 && !have6 {
		all = append(all, ipam.Request{IPv6: true, Avoid: avoid})
	}
	slices.SortStableFunc(all, func(x, y ipam.Request) int { return family(x) - family(y) }) // clients give them in any order
	for _, q := range all {
		if q.IPv6 && !r.IPv6 || !q.IPv6 && !r.IPv4 {
			continue // a subnet of a family that is off says nothing
		}
		q.NoGateway = s.noGateway(r, q.IPv6)
		p, err := s.pools.TakePool(q)
		if err != nil {
			return errors.Join(poolError(err), s.releasePools(*r))
		}
		r.Pools = append(r.Pools, p)
	}
	return nil
}

func family(q ipam.Request) int {
	if q.IPv6 {
		return 6
	}
	return 4
}

// noGateway tells whether a network's subnets need none: nobody leaves it.
func (s *Service) noGateway(r *port.Record, v6 bool) bool {
	mode := r.Options.Gateway4
	if v6 {
		mode = r.Options.Gateway6
	}
	inhibited := !v6 && r.Options.InhibitIPv4
	return r.Internal && (mode == port.Isolated || inhibited || r.Driver != "bridge")
}

// poolError is what clients know of addresses that can't be had.
func poolError(err error) error {
	switch {
	case errdefs.IsAlreadyExists(err):
		return refuse(errdefs.ErrPermissionDenied, "invalid pool request: Pool overlaps with other one on this address space: %v", told(err, ""))
	case errdefs.IsInvalidArgument(err):
		return told(err, "")
	case errdefs.IsResourceExhausted(err):
		return refuse(errdefs.ErrInvalidArgument, "all predefined address pools have been fully subnetted")
	}
	return err
}

func (s *Service) releasePools(r port.Record) error {
	var errs []error
	if r.ConfigOnly {
		return nil
	}
	for _, p := range r.Pools {
		errs = append(errs, s.pools.ReleasePool(p.Subnet))
	}
	return errors.Join(errs...)
}

// routes are the subnets that the host reaches otherwise.
func routes() ([]netip.Prefix, error) {
	rt, err := rtnl.Open(nil)
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	return rt.Routes()
}

// newID is a new ID of a network or an endpoint.
func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
