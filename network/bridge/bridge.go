// Package bridge is the driver of networks that are a bridge device on the host.
//
// A network is a bridge with the gateways' addresses, an endpoint a veth whose one
// end is a port of it and whose other is made in the sandbox, both by one message.
// Package firewall decides what passes, package proxy carries what the kernel can't
// translate.
//
// # What it changes on the host
//
// Interfaces, which carry the alias "<mark>:<id>" and are known by it; the tables
// of package firewall; forwarding, if it is off and a network needs it. The latter
// it turns off again with the last network, and meanwhile nothing but our networks
// is forwarded. Interfaces that take router advertisements go on doing so
// (accept_ra 2), which forwarding would end. route_localnet is never set: what is
// published on the loopback goes through the proxy.
//
// # Locks
//
// A network's mutex is held for reading by Connect and Disconnect, for writing by
// Create and Remove; then come Driver.forwarding, the mutex of a network's endpoints,
// Driver.mu, which guards the table of networks, and the firewall's. The last three
// are held for moments; no proxy is closed under Driver.mu, which proxies take.
package bridge

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/hostport"
	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/firewall"
	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// Config is how the driver is set up.
type Config struct {
	// Namespace is the path of the host's network namespace; "" is the process's
	// own.
	Namespace string
	// Mark tells our interfaces and tables from those of another daemon on the
	// same host; "" is orlop. It is the name of the firewall's tables.
	Mark string
	// AcceptMark is put into the mark of packets that are let through, for
	// firewalls that refuse by default; 0 is none.
	AcceptMark uint32
	// Ports opens the sockets of published ports where this process can't, as it is in a
	// network namespace that is not the host's; nil opens them here.
	Ports *hostport.Client
	// Report hears of what went wrong in the background; nil drops it.
	Report func(error)
}

// Driver implements [network.Driver].
type Driver struct {
	config Config
	ns     *namespace.Namespace
	own    bool // ns is the process's own
	rt     *rtnl.Conn
	fw     *firewall.Firewall

	janitor janitor

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	networks map[string]*bridged
	// forwarding is held while forwarding is turned on or off.
	forwarding sync.Mutex
}

// bridged is a network that is there, or is being made or removed.
type bridged struct {
	network.Network
	name string // of the bridge

	mu    sync.RWMutex
	index int // of the bridge; 0 if it isn't there

	emu       sync.Mutex
	endpoints map[string]*held
}

// held is a connected endpoint with what it keeps open; nil while it is being
// connected.
type held struct {
	network.Endpoint
	ports []port
}

// Open opens the driver. It changes nothing; networks of an earlier daemon are taken
// over by Reconcile.
func Open(c Config) (*Driver, error) {
	if c.Mark == "" {
		c.Mark = "orlop"
	}
	if c.Report == nil {
		c.Report = func(error) {}
	}
	ns, err := namespace.Open(c.Namespace)
	if err != nil {
		return nil, err
	}
	d := &Driver{config: c, ns: ns, own: c.Namespace == "", networks: map[string]*bridged{}}
	d.janitor.ns, d.janitor.report = ns, c.Report
	if d.rt, err = rtnl.Open(ns); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	if d.fw, err = firewall.Open(firewall.Config{Table: c.Mark, Namespace: ns, AcceptMark: c.AcceptMark}); err != nil {
		return nil, errors.Join(err, d.rt.Close(), ns.Close())
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		if err := d.fw.Watch(d.ctx, d.mended); err != nil && d.ctx.Err() == nil {
			c.Report(err)
		}
	}()
	return d, nil
}

// mended hears what the firewall's watch did.
func (d *Driver) mended(err error) {
	if err == nil {
		err = errors.New("somebody changed the firewall's tables; they were set again")
	}
	d.config.Report(err)
}

// Close implements [network.Driver].
func (d *Driver) Close() error {
	d.cancel()
	d.mu.Lock()
	networks := slices.Collect(maps.Values(d.networks))
	d.networks = map[string]*bridged{}
	d.mu.Unlock()
	for _, n := range networks {
		n.emu.Lock()
		for _, e := range n.endpoints {
			if e != nil {
				closePorts(e.ports)
			}
		}
		n.endpoints = map[string]*held{}
		n.emu.Unlock()
	}
	d.work.Wait()
	d.janitor.work.Wait()
	return errors.Join(d.fw.Close(), d.rt.Close(), d.ns.Close())
}

// Create implements [network.Driver].
func (d *Driver) Create(ctx context.Context, n network.Network) error {
	if err := check(&n); err != nil {
		return err
	}
	b, err := d.reserve(n)
	if err != nil {
		return err
	}
	defer b.mu.Unlock() // reserve locked it
	if b.index != 0 {
		return nil
	}
	if err := d.make(ctx, b); err != nil {
		return errors.Join(fmt.Errorf("network %q: %w", n.ID, err), d.unmake(b))
	}
	return nil
}

// check tells what a bridge can't be.
func check(n *network.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	if n.Options.Parent != "" || n.Options.Mode != "" {
		return fmt.Errorf("network %q: a bridge has no parent and no mode: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// reserve enters a network into the table and locks it.
func (d *Driver) reserve(n network.Network) (*bridged, error) {
	name := n.Options.Bridge
	if name == "" {
		name = "br-" + n.ID[:12]
	}
	for {
		d.mu.Lock()
		b := d.networks[n.ID]
		if b == nil {
			for _, other := range d.networks {
				if other.name == name {
					d.mu.Unlock()
					return nil, fmt.Errorf("network %q: bridge %s belongs to network %q: %w", n.ID, name, other.ID, errdefs.ErrAlreadyExists)
				}
			}
			b = &bridged{Network: n, name: name, endpoints: map[string]*held{}}
			d.networks[n.ID] = b
		}
		d.mu.Unlock()
		b.mu.Lock()
		if d.network(n.ID) == b {
			return b, nil
		}
		b.mu.Unlock() // it was removed meanwhile
	}
}

func (d *Driver) network(id string) *bridged {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.networks[id]
}

// alias marks an interface as ours.
func (d *Driver) alias(id string) string { return d.config.Mark + ":" + id }

// make makes the bridge and lets it through the firewall.
func (d *Driver) make(ctx context.Context, b *bridged) error {
	old, err := d.rt.Link(b.name)
	switch {
	case err == nil && old.Alias != d.alias(b.ID):
		return fmt.Errorf("interface %s belongs to somebody else: %w", b.name, errdefs.ErrAlreadyExists)
	case err != nil && !errdefs.IsNotFound(err):
		return err
	case err != nil:
		// A bridge without a set address takes its ports', and changes with them.
		err := d.rt.Do(rtnl.NewLink(rtnl.Link{Name: b.name, Kind: "bridge", Group: firewall.Group, MTU: b.Options.MTU, MAC: b.mac()}),
			rtnl.SetLink(rtnl.Link{Name: b.name, Alias: d.alias(b.ID)}))
		if err != nil {
			return err
		}
		if old, err = d.rt.Link(b.name); err != nil {
			return err
		}
	}
	if err := d.ns.Do(func() error { return bridgeSysctls(b.name, b.IPv6) }); err != nil {
		return err
	}
	b.index = old.Index
	if err := d.fw.SetNetwork(ctx, b.rules()); err != nil {
		return err
	}
	if err := d.forward(ctx, b); err != nil {
		return err
	}
	messages := []rtnl.Message{rtnl.SetLink(rtnl.Link{Index: b.index, Name: b.name, Up: true})}
	for _, p := range b.Pools {
		if p.Gateway.IsValid() && b.mode(p.Gateway) != network.Isolated && !(b.Options.InhibitIPv4 && p.Gateway.Is4()) {
			messages = append(messages, rtnl.NewAddress(b.index, netip.PrefixFrom(p.Gateway, p.Subnet.Bits())).Unless(errExists))
		}
	}
	return d.rt.Do(messages...)
}

// mac is the bridge's address.
func (b *bridged) mac() net.HardwareAddr {
	sum := sha256.Sum256([]byte(b.ID))
	sum[0] = sum[0]&^1 | 2 // of an interface, locally administered
	return sum[:6]
}

func (b *bridged) mode(a netip.Addr) network.GatewayMode {
	if a.Is4() {
		return b.Options.Gateway4
	}
	return b.Options.Gateway6
}

// rules are what the firewall is told.
func (b *bridged) rules() firewall.Network {
	return firewall.Network{Bridge: b.name, Internal: b.Internal,
		Mode4: b.Options.Gateway4, Mode6: b.Options.Gateway6,
		Separate: b.Options.Separate, MAC: b.mac(), Masquerade: !b.Options.NoMasquerade, Source4: b.Options.Source4, Source6: b.Options.Source6,
		Trusted: b.Options.TrustedInterfaces()}
}

// Remove implements [network.Driver].
func (d *Driver) Remove(_ context.Context, id string) error {
	b := d.network(id)
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.endpoints) > 0 {
		return fmt.Errorf("network %q has %d endpoints: %w", id, len(b.endpoints), errdefs.ErrFailedPrecondition)
	}
	if err := d.unmake(b); err != nil {
		return fmt.Errorf("network %q: %w", id, err)
	}
	return nil
}

// unmake removes the bridge if it is ours. The network is locked. It doesn't stop
// when a caller is in a hurry: half a network helps nobody.
func (d *Driver) unmake(b *bridged) error {
	var errs []error
	if l, err := d.rt.Link(b.name); err == nil && l.Alias == d.alias(b.ID) {
		errs = append(errs, d.rt.Do(rtnl.DelLink(b.name)))
	}
	d.forwarding.Lock()
	defer d.forwarding.Unlock()
	if b.index != 0 {
		errs = append(errs, d.stopForwarding(b), d.fw.RemoveNetwork(context.Background(), b.rules()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.index = 0
	d.mu.Lock()
	delete(d.networks, b.ID)
	d.mu.Unlock()
	return nil
}
