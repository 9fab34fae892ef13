package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	port "github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
)

// MaxEndpoints bounds to how many networks a sandbox is connected.
const MaxEndpoints = 64

// Prepare makes a sandbox's namespace and chooses its addresses. Nobody is connected
// yet. A sandbox of that ID that is there already is an error.
func (s *Service) Prepare(ctx context.Context, p Plan) (Sandbox, error) {
	if err := checkID(p.ID); err != nil {
		return Sandbox{}, err
	}
	if len(p.Wishes) > MaxEndpoints {
		return Sandbox{}, refuse(errdefs.ErrInvalidArgument, "a container can be connected to at most %d networks", MaxEndpoints)
	}
	b := &sandbox{Sandbox: Sandbox{ID: p.ID, Name: p.Name, Path: s.spacePath(p.ID), NoIPv6: p.NoIPv6, Ports: p.Ports,
		Servers: Naming{Servers: p.Servers}.Or(s.config.Naming).ports()}}
	if p.Users != nil {
		b.Users = s.ownerPath(p.ID)
	}
	b.op.Lock()
	defer b.op.Unlock()
	s.mu.Lock()
	if s.sandboxes[p.ID] != nil {
		s.mu.Unlock()
		return Sandbox{}, refuse(errdefs.ErrAlreadyExists, "container %s is connected already", p.ID)
	}
	s.sandboxes[p.ID] = b
	s.mu.Unlock()
	err := s.mountSpace(&p)
	for i := 0; err == nil && i < len(p.Wishes); i++ {
		_, err = s.choose(ctx, b, p.Wishes[i])
	}
	if err != nil {
		s.undo(b)
		return Sandbox{}, err
	}
	s.arrange(b)
	out, _ := s.Sandbox(p.ID)
	return out, nil
}

// arrange sorts a new sandbox's connections: the default route's first, then gives
// them their metrics and names.
func (s *Service) arrange(b *sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(b.Endpoints, func(x, y Endpoint) int {
		return cmp.Or(min(y.ways(), 1)-min(x.ways(), 1), y.Priority-x.Priority, y.ways()-x.ways(), strings.Compare(x.NetworkName, y.NetworkName))
	})
	for i := range b.Endpoints {
		e := &b.Endpoints[i]
		e.Metric = port.Metric(e.Priority, i)
	}
	b.nameInterfaces()
}

// ways is for how many families a connection leads anywhere.
func (e *Endpoint) ways() (n int) {
	for _, v6 := range []bool{false, true} {
		if e.leads(v6) {
			n++
		}
	}
	return n
}

// leads tells whether a connection leads out for a family.
func (e *Endpoint) leads(v6 bool) bool { return !e.Internal && e.Address(v6).IsValid() }

// choose finds the network and addresses of a wish, and enters the connection into
// the sandbox. Called with op held.
func (s *Service) choose(ctx context.Context, b *sandbox, w Wish) (Endpoint, error) {
	r, err := s.Find(w.Network)
	if err != nil {
		return Endpoint{}, err
	}
	if r, err = s.ensure(ctx, r); err != nil {
		return Endpoint{}, err
	}
	sysctls, err := readSysctls(w.Options[optSysctls])
	if err != nil {
		return Endpoint{}, err
	}
	if b.NoIPv6 || slices.Contains(sysctls, "net.ipv6.conf.IFNAME.disable_ipv6=1") {
		r.IPv6 = false // for this one
	}
	if err := w.Check(&r); err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{NetworkName: r.Name, Internal: r.Internal, Gateway4: r.Gateway(false), Priority: w.Priority, Links: w.Links, Sysctls: sysctls}
	if r.IPv6 {
		e.Gateway6 = r.Gateway(true)
	}
	e.ID, e.Network, e.Sandbox, e.Names, e.MAC = newID(), r.ID, b.Path, w.Names, w.MAC
	e.Interface = w.Options[optIfname]
	if r.Name == Bridge {
		e.Names, e.Links = nil, nil
	}
	for _, a := range w.LinkLocal {
		e.LinkLocal = append(e.LinkLocal, netip.PrefixFrom(a, linkBits(a)))
	}
	if err := s.takeAddresses(&r, &e, w); err != nil {
		return e, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, there := s.networks[r.ID]
	switch {
	case !there || s.leaving[r.ID]:
		err = refuse(errdefs.ErrNotFound, "network %s not found", w.Network)
	case b.endpoint(r.ID) != nil:
		err = refuse(errdefs.ErrPermissionDenied, "endpoint with name %s already exists in network %s", b.Name, r.Name)
	case len(b.Endpoints) >= MaxEndpoints:
		err = refuse(errdefs.ErrInvalidArgument, "a container can be connected to at most %d networks", MaxEndpoints)
	case e.Interface != "" && slices.ContainsFunc(b.Endpoints, func(x Endpoint) bool { return x.Interface == e.Interface }):
		err = refuse(errdefs.ErrConflict, "the container has an interface %s already", e.Interface)
	}
	if err != nil {
		s.releaseAddresses(e)
		return e, err
	}
	b.Endpoints = append(b.Endpoints, e)
	return e, nil
}

// linkBits is the length of the prefix of addresses of the link alone.
func linkBits(a netip.Addr) int {
	if a.Is4() {
		return 16
	}
	return 64
}

// Check refuses what a network can never give.
func (w *Wish) Check(r *port.Record) error {
	switch {
	case len(w.LinkLocal) > 0 && r.Driver != "bridge":
		return refuse(errdefs.ErrNotImplemented, "link-local addresses on networks of the driver %s are not available yet", r.Driver)
	case slices.ContainsFunc(w.LinkLocal, func(a netip.Addr) bool { return a.Is6() && !r.IPv6 }):
		return refuse(errdefs.ErrInvalidArgument, "network %s has no IPv6, which a link-local address wants", r.Name)
	case r.ConfigOnly:
		return refuse(errdefs.ErrPermissionDenied, "network %s is a configuration network: containers can't be connected to it", r.Name)
	case r.Name == Host || r.Name == None:
		return refuse(errdefs.ErrPermissionDenied, "container cannot be connected to network %s beside others", r.Name)
	case (w.IPv4.IsValid() || w.IPv6.IsValid()) && r.Predefined:
		return refuse(errdefs.ErrInvalidArgument, "user specified IP address is supported on user defined networks only")
	case w.IPv4.IsValid() && !r.IPv4, w.IPv6.IsValid() && !r.IPv6:
		return refuse(errdefs.ErrInvalidArgument, "network %s has no addresses of that family", r.Name)
	case !r.IPv4 && !r.IPv6 && len(r.Pools) > 0:
		return refuse(errdefs.ErrInvalidArgument, "network %s has IPv6 alone, which the container turns off", r.Name)
	}
	for _, a := range []netip.Addr{w.IPv4, w.IPv6} {
		if a.IsValid() && !slices.ContainsFunc(r.Pools, func(p port.Pool) bool { return p.Subnet.Contains(a) }) {
			return refuse(errdefs.ErrInvalidArgument, "no configured subnet contains IP address %s", a)
		}
	}
	if name := w.Options[optIfname]; name != "" {
		if err := port.CheckInterface(name); err != nil {
			return told(err, "")
		}
	}
	_, err := readSysctls(w.Options[optSysctls])
	return err
}

// takeAddresses takes one of each family.
func (s *Service) takeAddresses(r *port.Record, e *Endpoint, w Wish) error {
	for _, f := range []struct {
		on, v6 bool
		wanted netip.Addr
	}{{r.IPv4, false, w.IPv4}, {r.IPv6, true, w.IPv6}} {
		if !f.on {
			continue
		}
		a, err := s.takeAddress(r, f.v6, f.wanted)
		if err != nil {
			s.releaseAddresses(*e)
			return err
		}
		e.Addresses = append(e.Addresses, a)
	}
	return nil
}

// takeAddress takes an address of the first subnet that has one.
func (s *Service) takeAddress(r *port.Record, v6 bool, wanted netip.Addr) (netip.Prefix, error) {
	err := refuse(errdefs.ErrInvalidArgument, "no configured subnet contains IP address %s", wanted)
	for _, p := range r.Pools {
		if p.Subnet.Addr().Is6() != v6 || wanted.IsValid() && !p.Subnet.Contains(wanted) {
			continue
		}
		var a netip.Prefix
		if a, err = s.pools.Take(p.Subnet, wanted); err == nil {
			return a, nil
		}
	}
	switch {
	case errdefs.IsAlreadyExists(err):
		err = refuse(errdefs.ErrPermissionDenied, "Address already in use")
	case errdefs.IsInvalidArgument(err):
		err = told(err, "")
	case errdefs.IsResourceExhausted(err):
		err = refuse(errdefs.ErrPermissionDenied, "no available IPv%s addresses on this network's address pools: %s (%s)", map[bool]string{false: "4", true: "6"}[v6], r.Name, r.ID)
	}
	return netip.Prefix{}, err
}

func (s *Service) releaseAddresses(e Endpoint) {
	for _, a := range e.Addresses {
		s.pools.Release(a.Masked(), a.Addr())
	}
}

// nameInterfaces gives names to those that have none. Called with Service.mu held.
func (b *sandbox) nameInterfaces() {
	used := map[string]bool{}
	for _, e := range b.Endpoints {
		used[e.Interface] = true
	}
	next := 0
	for i := range b.Endpoints {
		for b.Endpoints[i].Interface == "" {
			if name := "eth" + itoa(next); !used[name] {
				b.Endpoints[i].Interface, used[name] = name, true
			}
			next++
		}
	}
}

// Connect makes the connections of a prepared sandbox, and returns it with what was
// chosen. After an error the sandbox is to be left: its namespace stays until then, for
// a task may be about to join it.
func (s *Service) Connect(ctx context.Context, id string) (Sandbox, error) {
	b, err := s.hold(id)
	if err != nil {
		return Sandbox{}, err
	}
	defer b.op.Unlock()
	now, _ := s.Sandbox(id)
	var g errgroup.Group
	g.Go(func() error {
		for _, e := range now.Endpoints { // one after the other: drivers change settings of the namespace
			if err := s.connect(ctx, b, e); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error { return s.openResolver(b) })
	if err = g.Wait(); err == nil {
		err = s.save(b)
	}
	if err != nil {
		return Sandbox{}, err
	}
	s.mu.Lock()
	b.connected = true
	s.mu.Unlock()
	out, _ := s.Sandbox(id)
	for _, e := range out.Endpoints {
		s.tellEndpoint("connect", e, id)
	}
	return out, nil
}

// hold finds a sandbox and locks it.
func (s *Service) hold(id string) (*sandbox, error) {
	s.mu.Lock()
	b := s.sandboxes[id]
	s.mu.Unlock()
	if b != nil {
		b.op.Lock()
		s.mu.Lock()
		there := s.sandboxes[id] == b
		s.mu.Unlock()
		if there {
			return b, nil
		}
		b.op.Unlock()
	}
	return nil, refuse(errdefs.ErrNotFound, "container %s is connected to no network", id)
}

func (s *Service) tellEndpoint(action string, e Endpoint, sandbox string) {
	if r, err := s.Find(e.Network); err == nil {
		s.tell(action, r, sandbox)
	}
}

// connect makes one connection and enters what became of it.
func (s *Service) connect(ctx context.Context, b *sandbox, e Endpoint) error {
	r, err := s.Find(e.Network)
	if err != nil {
		return err
	}
	driver, err := s.driver(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.plan(b, &e)
	s.mu.Unlock()
	made, err := driver.Connect(ctx, e.Endpoint)
	if err != nil {
		return connectError(b, e, err)
	}
	if err := e.setSysctls(made.Interface); err != nil {
		return errors.Join(err, driver.Disconnect(context.WithoutCancel(ctx), made))
	}
	s.enter(b, made)
	s.names.Add(r.Network, made)
	return nil
}

// connectError gives an error the text that clients know. Its class is none: it is
// the server's, as Docker has it.
func connectError(b *sandbox, e Endpoint, err error) error {
	var taken *port.PortTaken
	if errors.As(err, &taken) {
		return refuse(errdefs.ErrInternal, "failed to set up container networking: driver failed programming external connectivity on endpoint %s (%s): Bind for %s failed: port is already allocated",
			b.Name, e.ID, netip.AddrPortFrom(taken.Address, taken.Port.Host))
	}
	return told(err, e.ID)
}

// Leave undoes Prepare and Connect when the sandbox's processes have ended. One that
// isn't there is no error.
func (s *Service) Leave(_ context.Context, id string) error {
	b, err := s.hold(id)
	if err != nil {
		return nil
	}
	defer b.op.Unlock()
	now, _ := s.Sandbox(id)
	err = s.drop(b)
	for _, e := range now.Endpoints {
		if b.connected {
			s.tellEndpoint("disconnect", e, id)
		}
	}
	return err
}

// undo drops a sandbox after another error, which is the one to tell.
func (s *Service) undo(b *sandbox) {
	if err := s.drop(b); err != nil {
		s.config.Report(fmt.Errorf("container %s: %w", b.Name, err))
	}
}

// drop lets a sandbox go: its namespace first, with which the kernel takes what is in
// it, its record last. Called with op held.
func (s *Service) drop(b *sandbox) error {
	errs := []error{b.closeResolver(), unmountSpace(b.Path)}
	if b.Users != "" {
		errs = append(errs, unmountSpace(s.ownerPath(b.ID)))
	}
	now, _ := s.Sandbox(b.ID)
	for _, e := range now.Endpoints {
		errs = append(errs, s.disconnect(e))
	}
	s.mu.Lock()
	delete(s.sandboxes, b.ID)
	s.mu.Unlock()
	for _, e := range now.Endpoints {
		s.releaseAddresses(e)
	}
	if err := errors.Join(errs...); err != nil {
		return err // the file stays: the next start comes back to it
	}
	if err := os.Remove(s.recordPath(b.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// disconnect undoes one connection.
func (s *Service) disconnect(e Endpoint) error {
	s.names.Remove(e.Endpoint)
	r, err := s.Find(e.Network)
	if err != nil || e.Interface == "" {
		return nil // it was never made; and with the network went its interfaces
	}
	driver, err := s.driver(r)
	if err != nil {
		return err
	}
	return driver.Disconnect(context.Background(), e.Endpoint)
}

// readSysctls reads a list of settings of an interface, which is called IFNAME in
// them, in letters of either case.
func readSysctls(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for i, x := range list {
		name, _, ok := strings.Cut(x, "=")
		parts := strings.Split(name, ".")
		if !ok || len(parts) != 5 || parts[0] != "net" || !strings.EqualFold(parts[3], "IFNAME") || !slices.Contains([]string{"ipv4", "ipv6", "mpls"}, parts[1]) ||
			filepath.Base(parts[2]) != parts[2] || filepath.Base(parts[4]) != parts[4] {
			return nil, refuse(errdefs.ErrInvalidArgument, "invalid sysctl %q of an endpoint: they look like net.ipv4.conf.IFNAME.log_martians=1", x)
		}
		list[i] = strings.Join([]string{"net", parts[1], parts[2], "IFNAME", parts[4] + x[len(name):]}, ".")
	}
	return list, nil
}

// setSysctls makes an interface's settings.
func (e *Endpoint) setSysctls(name string) error {
	if len(e.Sysctls) == 0 {
		return nil
	}
	ns, err := namespace.Open(e.Sandbox)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error {
		for _, x := range e.Sysctls {
			key, value, _ := strings.Cut(x, "=")
			parts := strings.Split(key, ".")
			if err := namespace.Sysctl(strings.Join([]string{parts[1], parts[2], name, parts[4]}, "/"), value, false); err != nil {
				return refuse(errdefs.ErrInvalidArgument, "sysctl of an endpoint: %v", err)
			}
		}
		return nil
	})
}
