// Package macvlan is the driver of networks whose sandboxes stand on the host's wire
// with MAC addresses of their own, and of ipvlan, where they share the host's.
//
// An endpoint is an interface on the parent, made in the sandbox by one message.
// There is nothing on the host but the parent: it is the administrator's and is
// never changed, and a network is only its record. A network that names no parent
// gets one of its own that leads nowhere, known by its alias "<mark>-<kind>:<id>", and
// is thus between sandboxes of this host. The kernel lets no frames pass
// between a macvlan and its own parent, so the host and its sandboxes don't reach
// each other. The kernel removes an interface with its sandbox.
//
// Internal networks get no default route, and stand on the wire all the same: who
// wants them apart from it names a parent that leads nowhere. Published ports have
// no meaning; they are dropped.
//
// Driver.mu guards the tables; it isn't held while the kernel is asked, but to remove a
// parent of ours.
package macvlan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// Kind is one of the two drivers that this package is.
type Kind string

// The kinds.
const (
	Macvlan Kind = "macvlan"
	Ipvlan  Kind = "ipvlan"
)

// Numbers of the modes (linux/if_link.h).
var modes = map[Kind]map[string]uint32{
	Macvlan: {"private": 1, "vepa": 2, "": 4, "bridge": 4, "passthru": 8},
	Ipvlan:  {"": 0, "l2": 0, "l3": 1, "l3s": 2},
}

// modeAttribute is IFLA_MACVLAN_MODE and IFLA_IPVLAN_MODE.
const modeAttribute = 1

// Config is how the driver is set up.
type Config struct {
	Kind Kind
	// Namespace is the path of the host's network namespace; "" is the process's
	// own.
	Namespace string
	// Mark tells our interfaces from those of another daemon on the same host; "" is
	// orlop.
	Mark string
}

// Driver implements [network.Driver].
type Driver struct {
	config Config
	ns     *namespace.Namespace
	rt     *rtnl.Conn

	mu        sync.Mutex
	networks  map[string]network.Network
	endpoints map[string]network.Endpoint
}

// Open opens the driver.
func Open(c Config) (*Driver, error) {
	if modes[c.Kind] == nil {
		return nil, fmt.Errorf("kind %q: %w", c.Kind, errdefs.ErrInvalidArgument)
	}
	if c.Mark == "" {
		c.Mark = "orlop"
	}
	ns, err := namespace.Open(c.Namespace)
	if err != nil {
		return nil, err
	}
	rt, err := rtnl.Open(ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &Driver{config: c, ns: ns, rt: rt, networks: map[string]network.Network{}, endpoints: map[string]network.Endpoint{}}, nil
}

// Close implements [network.Driver].
func (d *Driver) Close() error { return errors.Join(d.rt.Close(), d.ns.Close()) }

// Create implements [network.Driver].
func (d *Driver) Create(_ context.Context, n network.Network) error {
	if err := d.check(&n); err != nil {
		return err
	}
	var err error
	if n.Options.Parent == "" {
		err = d.makeParent(&n)
	} else {
		_, err = d.rt.Link(n.Options.Parent)
	}
	if err != nil {
		return fmt.Errorf("network %q: parent: %w", n.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.networks[n.ID] = n
	return nil
}

func (d *Driver) check(n *network.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	if _, ok := modes[d.config.Kind][n.Options.Mode]; !ok {
		return fmt.Errorf("network %q: %s has no mode %q: %w", n.ID, d.config.Kind, n.Options.Mode, errdefs.ErrInvalidArgument)
	}
	o := n.Options
	if o.Bridge != "" || o.Gateway4 != "" || o.Gateway6 != "" || o.Separate || o.HostAddress.IsValid() {
		return fmt.Errorf("network %q: %s takes no option of bridges: %w", n.ID, d.config.Kind, errdefs.ErrInvalidArgument)
	}
	if o.Parent == "" && !n.Internal {
		return fmt.Errorf("network %q: without a parent it leads nowhere, and must be internal: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	return network.CheckInterface(d.parentOf(n))
}

// Remove implements [network.Driver].
func (d *Driver) Remove(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.endpoints {
		if e.Network == id {
			return fmt.Errorf("network %q has endpoints: %w", id, errdefs.ErrFailedPrecondition)
		}
	}
	n, known := d.networks[id]
	delete(d.networks, id)
	if !known || n.Options.Parent != "" {
		return nil
	}
	return d.removeParent(&n)
}

// Connect implements [network.Driver].
func (d *Driver) Connect(_ context.Context, e network.Endpoint) (network.Endpoint, error) {
	if err := e.Check(); err != nil {
		return e, err
	}
	d.mu.Lock()
	n, known := d.networks[e.Network]
	_, twice := d.endpoints[e.ID]
	if known && !twice {
		d.endpoints[e.ID] = e // its place
	}
	d.mu.Unlock()
	switch {
	case !known:
		return e, fmt.Errorf("network %q: %w", e.Network, errdefs.ErrNotFound)
	case twice:
		return e, fmt.Errorf("endpoint %q: %w", e.ID, errdefs.ErrAlreadyExists)
	}
	out, err := d.connect(&n, e)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.endpoints, e.ID)
		return e, fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	d.endpoints[e.ID] = out
	return out, nil
}

func (d *Driver) connect(n *network.Network, e network.Endpoint) (network.Endpoint, error) {
	e.Ports = nil
	if e.MAC == nil && d.config.Kind == Macvlan && n.Options.Mode != "passthru" {
		e.MAC = network.MACOf(e.Addresses)
	}
	parent, err := d.rt.Link(d.parentOf(n))
	if err != nil {
		return e, err
	}
	sandbox, err := namespace.Open(e.Sandbox)
	if err != nil {
		return e, err
	}
	defer sandbox.Close()
	var rt *rtnl.Conn
	err = sandbox.Do(func() (err error) {
		for name, value := range map[string]string{"accept_ra": "0", "accept_dad": "0", "disable_ipv6": disabled(n.IPv6 && e.Address(true).IsValid())} {
			if err := namespace.Sysctl("ipv6/conf/default/"+name, value, true); err != nil {
				return err
			}
		}
		rt, err = rtnl.Open(nil)
		return err
	})
	if err != nil {
		return e, err
	}
	defer rt.Close()
	err = d.rt.Do(rtnl.NewLink(rtnl.Link{Name: e.Interface, Kind: string(d.config.Kind), MTU: n.Options.MTU, MAC: e.MAC, Parent: parent.Index,
		Namespace: sandbox.FD(), Data: d.mode(n.Options.Mode)}))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return e, fmt.Errorf("the kernel has no %s: %w", d.config.Kind, errdefs.ErrNotImplemented)
	}
	if err != nil {
		return e, err
	}
	link, err := rt.Link(e.Interface)
	if err == nil {
		err = rt.Do(inside(n, &e, link.Index)...)
	}
	if err != nil {
		return e, errors.Join(err, rt.Do(rtnl.DelLink(e.Interface)))
	}
	if e.MAC == nil && d.config.Kind == Macvlan {
		e.MAC = link.MAC
	}
	return e, nil
}

func disabled(v6 bool) string {
	if v6 {
		return "0"
	}
	return "1"
}

// mode is the mode's attribute; ipvlan's is of two bytes.
func (d *Driver) mode(name string) []byte {
	n := modes[d.config.Kind][name]
	if d.config.Kind == Ipvlan {
		return rtnl.Short(modeAttribute, uint16(n))
	}
	return rtnl.Number(modeAttribute, n)
}

// inside is what makes an interface in a sandbox ready. In ipvlan's l3 modes there is
// no broadcast and thus no gateway: all is on the link.
func inside(n *network.Network, e *network.Endpoint, index int) []rtnl.Message {
	out := []rtnl.Message{
		rtnl.SetLink(rtnl.Link{Index: 1, Name: "lo", Up: true}),
		rtnl.SetLink(rtnl.Link{Index: index, Name: e.Interface, Up: true}),
	}
	for _, a := range e.Addresses {
		out = append(out, rtnl.NewAddress(index, a))
	}
	if n.Internal {
		return out
	}
	layer3 := n.Options.Mode == "l3" || n.Options.Mode == "l3s"
	for _, v6 := range []bool{false, true} {
		gateway := n.Gateway(v6)
		if layer3 {
			gateway = netip.Addr{}
		}
		if e.Address(v6).IsValid() && (layer3 || gateway.IsValid()) {
			out = append(out, rtnl.DefaultRoute(index, gateway, v6, e.Metric))
		}
	}
	return out
}

// Disconnect implements [network.Driver].
func (d *Driver) Disconnect(_ context.Context, e network.Endpoint) error {
	if err := e.Check(); err != nil {
		return err
	}
	d.mu.Lock()
	_, known := d.endpoints[e.ID]
	d.mu.Unlock()
	if !known {
		return nil
	}
	if err := remove(e); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.endpoints, e.ID)
	return nil
}

// remove removes the interface; with its sandbox it is gone already.
func remove(e network.Endpoint) error {
	sandbox, err := namespace.Open(e.Sandbox)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sandbox.Close()
	rt, err := rtnl.Open(sandbox)
	if err != nil {
		return err
	}
	defer rt.Close()
	return rt.Do(rtnl.DelLink(e.Interface))
}

// Reconcile implements [network.Driver]. What a crash left unrecorded it can't find:
// such an interface ends with its sandbox, which nobody has recorded either.
func (d *Driver) Reconcile(ctx context.Context, s network.State) error {
	errs := []error{d.sweep(s.Networks)}
	d.mu.Lock()
	d.networks, d.endpoints = map[string]network.Network{}, map[string]network.Endpoint{}
	d.mu.Unlock()
	for _, n := range s.Networks {
		errs = append(errs, d.Create(ctx, n))
	}
	for _, e := range s.Endpoints {
		errs = append(errs, d.takeOver(ctx, e))
	}
	return errors.Join(errs...)
}

func (d *Driver) takeOver(ctx context.Context, e network.Endpoint) error {
	sandbox, err := namespace.Open(e.Sandbox)
	if err != nil || e.Check() != nil {
		return nil // gone
	}
	defer sandbox.Close()
	rt, err := rtnl.Open(sandbox)
	if err != nil {
		return err
	}
	defer rt.Close()
	link, err := rt.Link(e.Interface)
	if err != nil {
		_, err = d.Connect(ctx, e)
		return err
	}
	d.mu.Lock()
	n, known := d.networks[e.Network]
	if known {
		d.endpoints[e.ID] = e
	}
	d.mu.Unlock()
	if !known {
		return fmt.Errorf("endpoint %q: network %q: %w", e.ID, e.Network, errdefs.ErrNotFound)
	}
	messages := inside(&n, &e, link.Index)
	for i := range messages { // a crash may have left some undone
		messages[i] = messages[i].Unless(unix.EEXIST)
	}
	return rt.Do(messages...)
}
