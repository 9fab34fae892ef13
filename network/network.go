// Package network is the port of container networks: what a network, an endpoint
// and a driver are.
//
// # Terms
//
// A sandbox is a network namespace, named by a path. A [Network] is what sandboxes
// are connected to. An [Endpoint] is one such connection: an interface in the
// sandbox with its addresses, and what of it is published on the host. A [Driver]
// makes both real. The host is whatever namespace the driver was opened in; nothing
// assumes that it is the machine's first.
//
// # Lifecycle
//
//	Create ── Connect ── Disconnect ── Remove
//	             └── sandbox disappears ── Disconnect (all the same)
//
// Addresses are chosen by the caller, who has them from package ipam and keeps both
// in its database. Drivers keep nothing on disk: whatever they need to know comes
// with Create and Connect, and again, after a start, with Reconcile.
//
// Connect takes an endpoint as it is wished and returns it as it became (host ports
// chosen, names and MAC address filled in). The caller records the returned one
// before it tells anybody; Reconcile and Disconnect take the recorded one.
//
// # What survives
//
// Interfaces, routes and firewall rules live in the kernel and outlive the daemon:
// containers go on talking while it is replaced. After a start Reconcile is given
// everything that is recorded; it mends what is missing and removes what carries the
// driver's mark and isn't recorded, such as what a crash left between Connect and
// its record. Sockets that hold published ports, proxies and resolvers end with the
// daemon and are opened again by Reconcile; connections that went through a proxy
// are cut, those that the kernel forwards are not.
//
// # Concurrency
//
// Drivers may be called from many goroutines. Calls that concern one network are
// ordered by the driver: a network isn't removed under a Connect. Lock order inside
// drivers: table of networks, one network, firewall.
package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// Driver makes networks of one kind real.
type Driver interface {
	// Create makes a network. A network that is there already, as configured, is
	// no error. It returns ErrInvalidArgument for options that it doesn't take,
	// ErrNotImplemented for what the kernel hasn't got, ErrAlreadyExists if an
	// interface of that name belongs to somebody else.
	Create(ctx context.Context, n Network) error
	// Remove removes a network; one that isn't there is no error. It returns
	// ErrFailedPrecondition while endpoints are connected.
	Remove(ctx context.Context, id string) error
	// Connect connects a sandbox, running or not, and returns the endpoint
	// completed. It returns ErrNotFound for an unknown network,
	// ErrAlreadyExists for an interface name that is taken in the sandbox, and
	// ErrConflict for a host port that is. What it began it undoes on error.
	Connect(ctx context.Context, e Endpoint) (Endpoint, error)
	// Disconnect undoes Connect, whether the sandbox still exists or not. An
	// endpoint that isn't connected is no error.
	Disconnect(ctx context.Context, e Endpoint) error
	// Reconcile makes what is real agree with what is recorded, after a start or
	// after others have changed the firewall. Endpoints whose sandbox is gone are
	// undone. It goes on after errors and returns them joined.
	Reconcile(ctx context.Context, s State) error
	// Close ends goroutines and closes sockets, and leaves networks in place.
	Close() error
}

// State is what is recorded about one driver's networks.
type State struct {
	Networks  []Network
	Endpoints []Endpoint
}

// Network is the configuration of a network. It doesn't change while the network
// exists.
type Network struct {
	// ID is unique and never used again: 12 to 64 hexadecimal digits, of which
	// the first 12 are unique among the networks of a host.
	ID string
	// Name is what people call it; drivers only log it.
	Name string
	// Driver is the name of the driver, "bridge" for one.
	Driver string
	// Internal networks reach nothing outside themselves, and nothing outside
	// reaches them. The host does, by the gateway's address.
	Internal bool
	// IPv4 and IPv6 tell which families sandboxes get.
	IPv4, IPv6 bool
	// Pools are the network's subnets. Several of a family are possible.
	Pools []Pool
	// Options depend on the driver.
	Options Options
}

// Pool is one subnet of a network.
type Pool struct {
	Subnet netip.Prefix
	// Range is the part of Subnet from which addresses are chosen; the zero
	// value is all of it.
	Range netip.Prefix
	// Gateway is the host's address in it, or the router's for macvlan.
	Gateway netip.Addr
	// Aux are addresses that others have, by their names.
	Aux map[string]netip.Addr
}

// GatewayMode tells how a network is joined to the world, for one family.
type GatewayMode string

// The modes.
const (
	// NAT hides sandboxes behind the host; published ports alone are reachable.
	NAT GatewayMode = "nat"
	// NATUnprotected is NAT, but whoever has a route reaches every port.
	NATUnprotected GatewayMode = "nat-unprotected"
	// Routed does no translation; published ports are reachable at the sandbox's
	// own address.
	Routed GatewayMode = "routed"
	// Isolated gives an internal network's bridge no address: even the host
	// isn't reachable. Only for internal networks.
	Isolated GatewayMode = "isolated"
)

// Options are what drivers can be told. The zero value is the default of each.
type Options struct {
	// MTU in bytes; 0 is the kernel's default.
	MTU int
	// Bridge is the name of the bridge device; "" derives it from the ID.
	Bridge string
	// Gateway4 and Gateway6 are the gateway modes; "" is NAT.
	Gateway4, Gateway6 GatewayMode
	// Separate refuses traffic between the network's own sandboxes.
	Separate bool
	// AllowSpoofing lets sandboxes send with MAC addresses and ARP answers that
	// aren't theirs, which bridges and VRRP inside a sandbox need.
	AllowSpoofing bool
	// NoMasquerade leaves sandboxes' addresses as they are in NAT modes.
	NoMasquerade bool
	// InhibitIPv4 leaves the host's bridge without the network's IPv4 gateway, which
	// another machine or a sandbox is.
	InhibitIPv4 bool
	// HostAddress is where ports without a host address are published; the zero
	// value is every address.
	HostAddress netip.Addr
	// Source4 and Source6 are the host's addresses behind which NAT hides sandboxes;
	// the zero value is that of the interface by which a packet leaves.
	Source4, Source6 netip.Addr
	// Trusted are the host's interfaces, joined by colons, by which published ports are
	// reached at the sandbox's own address in NAT mode, too.
	Trusted string
	// Parent is the host's interface for macvlan and ipvlan.
	Parent string
	// Mode is macvlan's (bridge, private, vepa, passthru) or ipvlan's (l2, l3).
	Mode string
}

// TrustedInterfaces are those of Trusted.
func (o *Options) TrustedInterfaces() []string {
	if o.Trusted == "" {
		return nil
	}
	return strings.Split(o.Trusted, ":")
}

// Endpoint is the connection of a sandbox to a network.
type Endpoint struct {
	// ID is unique and never used again: 12 to 64 hexadecimal digits.
	ID string
	// Network is the ID of the network.
	Network string
	// Sandbox is the path of the network namespace.
	Sandbox string
	// Interface is the name of the interface in the sandbox.
	Interface string
	// Addresses are the sandbox's, with the length of the subnet.
	Addresses []netip.Prefix
	// LinkLocal are further addresses of the interface, of the link alone (RFC 3927,
	// RFC 4291).
	LinkLocal []netip.Prefix `json:",omitempty"`
	// MAC is the interface's; nil derives it from the first address, so that an
	// address that moves to another sandbox needs no new neighbour entry.
	MAC net.HardwareAddr
	// Metric orders the default routes of a sandbox with several networks: the
	// lowest wins, the next takes over when that network is disconnected. See
	// [Metric].
	Metric uint32
	// Names are the names by which the network's other sandboxes find this one.
	Names []string
	// Ports are what is published.
	Ports []Port
	// Elsewhere4 and Elsewhere6 tell that another endpoint of the sandbox publishes ports
	// at the host's addresses of a family. Where a network is [Routed] they are open at
	// this endpoint's own address all the same.
	Elsewhere4, Elsewhere6 bool `json:",omitempty"`
	// Linked are the ways to others that are open on a network with separate sandboxes.
	Linked []Link `json:",omitempty"`
}

// Protocol is a transport protocol.
type Protocol string

// The protocols that can be published.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Port is one published port.
type Port struct {
	Protocol Protocol
	// Container is the port in the sandbox.
	Container uint16
	// HostAddress is the host's address; the zero value is that of the network's
	// options, 0.0.0.0 and :: every address of a family.
	HostAddress netip.Addr
	// Host and HostEnd are the first and last port on the host from which one is
	// taken. Both 0 lets the kernel choose; HostEnd 0 is Host. A connected
	// endpoint has the port that was taken in both.
	Host, HostEnd uint16
}

// MaxPorts is how many ports an endpoint may publish.
const MaxPorts = 4096

// Metric gives the metric of default routes for a sandbox's network by the priority
// that a person gave, higher being better, and its place among those of the same
// priority.
func Metric(priority, place int) uint32 {
	const middle, step = 1 << 20, 64
	priority = min(max(priority, -8192), 8192)
	return uint32(middle - priority*step + min(max(place, 0), step-1))
}

var (
	idFormat        = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
	interfaceFormat = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
)

// CheckInterface tells what is wrong with the name of an interface.
func CheckInterface(name string) error {
	if !interfaceFormat.MatchString(name) || name == "all" || name == "default" {
		return fmt.Errorf("%q is no name of an interface: up to 15 letters, digits, dots, dashes and underscores: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// CheckSource tells why packets of a family can't come from an address.
func CheckSource(a netip.Addr, v6 bool) error {
	family := "IPv4"
	if v6 {
		family = "IPv6"
	}
	switch {
	case !a.IsValid() || a.Is6() != v6 || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("source address %s is not an address of %s: %w", a, family, errdefs.ErrInvalidArgument)
	case a.IsUnspecified() || a.IsMulticast():
		return fmt.Errorf("source address %s is none of a host: %w", a, errdefs.ErrInvalidArgument)
	}
	return nil
}

// minIPv6 is the least MTU of a link that carries IPv6 (RFC 8200, 5).
const minIPv6 = 1280

// Check tells what is wrong with a network, whatever its driver.
func (n *Network) Check() error {
	if !idFormat.MatchString(n.ID) {
		return fmt.Errorf("network ID %q: 12 to 64 hexadecimal digits: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	if n.Options.Bridge != "" {
		if err := CheckInterface(n.Options.Bridge); err != nil {
			return err
		}
	}
	switch m := n.Options.MTU; {
	case m != 0 && (m < 68 || m > 65535):
		return fmt.Errorf("network %q: the MTU %d is not between 68 and 65535: %w", n.ID, m, errdefs.ErrInvalidArgument)
	case m != 0 && m < minIPv6 && n.IPv6:
		return fmt.Errorf("network %q: the MTU %d is less than the %d that IPv6 needs: %w", n.ID, m, minIPv6, errdefs.ErrInvalidArgument)
	}
	for _, mode := range []GatewayMode{n.Options.Gateway4, n.Options.Gateway6} {
		if err := n.checkMode(mode); err != nil {
			return err
		}
	}
	for v6, a := range map[bool]netip.Addr{false: n.Options.Source4, true: n.Options.Source6} {
		if err := CheckSource(a, v6); a.IsValid() && err != nil {
			return fmt.Errorf("network %q: %w", n.ID, err)
		}
	}
	for _, name := range n.Options.TrustedInterfaces() {
		if err := CheckInterface(name); err != nil {
			return fmt.Errorf("network %q: trusted interfaces: %w", n.ID, err)
		}
	}
	for _, p := range n.Pools {
		if err := p.check(n); err != nil {
			return fmt.Errorf("network %q: %w", n.ID, err)
		}
	}
	return nil
}

func (n *Network) checkMode(mode GatewayMode) error {
	switch mode {
	case "", NAT, NATUnprotected, Routed:
		return nil
	case Isolated:
		if n.Internal {
			return nil
		}
		return fmt.Errorf("network %q: the gateway mode isolated is for internal networks: %w", n.ID, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("network %q: the gateway mode %q is none of nat, nat-unprotected, routed and isolated: %w", n.ID, mode, errdefs.ErrInvalidArgument)
}

func (p *Pool) check(n *Network) error {
	switch {
	case !p.Subnet.IsValid() || p.Subnet != p.Subnet.Masked():
		return fmt.Errorf("subnet %s: %w", p.Subnet, errdefs.ErrInvalidArgument)
	case p.Subnet.Addr().Is4() && !n.IPv4, p.Subnet.Addr().Is6() && !n.IPv6:
		return fmt.Errorf("subnet %s: its family is off: %w", p.Subnet, errdefs.ErrInvalidArgument)
	case p.Gateway.IsValid() && !p.Subnet.Contains(p.Gateway):
		return fmt.Errorf("gateway %s is not in %s: %w", p.Gateway, p.Subnet, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Check tells what is wrong with an endpoint, whatever its driver.
func (e *Endpoint) Check() error {
	if !idFormat.MatchString(e.ID) {
		return fmt.Errorf("endpoint ID %q: 12 to 64 hexadecimal digits: %w", e.ID, errdefs.ErrInvalidArgument)
	}
	if err := CheckInterface(e.Interface); err != nil {
		return err
	}
	if e.MAC != nil && (len(e.MAC) != 6 || e.MAC[0]&1 != 0) {
		return fmt.Errorf("MAC address %s is none of an interface: %w", e.MAC, errdefs.ErrInvalidArgument)
	}
	if len(e.Ports) > MaxPorts {
		return fmt.Errorf("endpoint %q: more than %d published ports: %w", e.ID, MaxPorts, errdefs.ErrInvalidArgument)
	}
	for _, p := range e.Ports {
		if err := p.check(); err != nil {
			return fmt.Errorf("endpoint %q: %w", e.ID, err)
		}
	}
	if err := checkLinks(e.Linked); err != nil {
		return fmt.Errorf("endpoint %q: %w", e.ID, err)
	}
	return nil
}

func (p *Port) check() error {
	switch p.Protocol {
	case TCP, UDP, SCTP:
	default:
		return fmt.Errorf("protocol %q: %w", p.Protocol, errdefs.ErrInvalidArgument)
	}
	if p.Container == 0 || p.HostEnd != 0 && p.HostEnd < p.Host {
		return fmt.Errorf("port %d-%d to %d: %w", p.Host, p.HostEnd, p.Container, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Address is the endpoint's first address of a family, the zero value if there is
// none.
func (e *Endpoint) Address(v6 bool) netip.Addr {
	for _, a := range e.Addresses {
		if a.Addr().Is6() == v6 {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// Gateway is the gateway of the network's first pool of a family.
func (n *Network) Gateway(v6 bool) netip.Addr {
	for _, p := range n.Pools {
		if p.Subnet.Addr().Is6() == v6 {
			return p.Gateway
		}
	}
	return netip.Addr{}
}

// MACOf derives an interface's address from the first of its IP addresses.
func MACOf(addresses []netip.Prefix) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0} // locally administered
	if len(addresses) == 0 {
		return nil
	}
	a := addresses[0].Addr()
	if a.Is4() {
		b := a.As4()
		copy(mac[2:], b[:])
		return mac
	}
	b := a.As16()
	mac[1] = 0x43
	for i, x := range b { // its 16 bytes folded: neighbours differ in the last
		mac[2+i%4] ^= x
	}
	return mac
}
