package bridge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/proxy"
)

// port is a socket on the host that keeps a published port, and once it is served the
// proxy that owns the socket.
type port struct {
	io.Closer
	to netip.AddrPort
	at place
}

// place is where a socket is.
type place struct {
	protocol network.Protocol
	host     netip.AddrPort
}

func closePorts(ports []port) {
	for _, p := range ports {
		p.Close()
	}
}

// hostAddresses are where a port is published.
func (b *bridged) hostAddresses(p network.Port) []netip.Addr {
	switch a := p.HostAddress; {
	case a.IsValid():
		return []netip.Addr{a.Unmap()}
	case b.Options.HostAddress.IsValid():
		return []netip.Addr{b.Options.HostAddress.Unmap()}
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// target is the sandbox's address that a host's address leads to: of the same family
// if it has one.
func target(e *network.Endpoint, host netip.Addr) netip.Addr {
	if a := e.Address(host.Is6()); a.IsValid() {
		return a
	}
	return e.Address(host.Is4())
}

// tries bounds how often the kernel is asked for a port that is free on every
// address.
const tries = 64

// hold takes the endpoint's ports on the host and writes down which. Those that it has
// already stay as they are.
func (d *Driver) hold(b *bridged, e *network.Endpoint, have []port) ([]port, error) {
	if b.Internal { // nothing outside may reach it: nothing is published
		return nil, nil
	}
	e.Ports = append([]network.Port(nil), e.Ports...)
	var out []port
	for i := range e.Ports {
		held, err := d.holdPort(b, e, &e.Ports[i], have)
		if err != nil {
			closeOthers(out, have)
			return nil, err
		}
		out = append(out, held...)
	}
	return out, nil
}

// closeOthers closes the ports that aren't among others.
func closeOthers(ports, others []port) {
	for _, p := range ports {
		if !slices.ContainsFunc(others, p.is) {
			p.Close()
		}
	}
}

// is tells whether two are the same.
func (p port) is(other port) bool { return p.at == other.at && p.to == other.to }

func (d *Driver) holdPort(b *bridged, e *network.Endpoint, p *network.Port, have []port) ([]port, error) {
	first, last := int(p.Host), int(max(p.HostEnd, p.Host))
	if first == 0 && last != 0 {
		first = 1
	}
	if last == 0 {
		last = tries - 1 // the kernel chooses each time
	}
	var err error
	for n := first; n <= last; n++ {
		number := uint16(n)
		if p.Host == 0 && p.HostEnd == 0 {
			number = 0
		}
		var held []port
		if held, number, err = d.bindAll(b, e, *p, number, have); err == nil {
			if len(held) > 0 { // else the wish stays one
				p.Host, p.HostEnd = number, number
			}
			return held, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = &network.PortTaken{Port: *p, Address: b.hostAddresses(*p)[0], Err: err}
	}
	return nil, fmt.Errorf("publish port %d: %w", p.Container, err)
}

// bindAll takes one number on all of a port's addresses; 0 lets the kernel choose
// the first.
func (d *Driver) bindAll(b *bridged, e *network.Endpoint, p network.Port, number uint16, have []port) ([]port, uint16, error) {
	var out []port
	for _, a := range b.hostAddresses(p) {
		target := target(e, a)
		if e.Elsewhere(a) || target.IsValid() && b.mode(target) == network.Routed {
			continue // reached at its own address
		}
		at := place{p.Protocol, netip.AddrPortFrom(a, number)}
		if i := slices.IndexFunc(have, port{at: at, to: netip.AddrPortFrom(target, p.Container)}.is); i >= 0 {
			out = append(out, have[i])
			continue
		}
		var (
			c     io.Closer
			taken uint16
		)
		err := d.ns.Do(func() (err error) {
			c, taken, err = d.bind(p.Protocol, netip.AddrPortFrom(a, number))
			return err
		})
		if len(out) > 0 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue // a host without IPv6
		}
		if err != nil {
			closeOthers(out, have)
			return nil, 0, err
		}
		at.host = netip.AddrPortFrom(a, taken)
		out = append(out, port{c, netip.AddrPortFrom(target, p.Container), at})
		number = taken
	}
	return out, number, nil
}

// bind takes one port. It runs in the host's namespace.
func (d *Driver) bind(p network.Protocol, a netip.AddrPort) (io.Closer, uint16, error) {
	suffix := "4"
	if a.Addr().Is6() {
		suffix = "6" // Go sets IPV6_V6ONLY for it
	}
	switch p {
	case network.TCP:
		l, err := d.listenTCP("tcp"+suffix, a)
		if err != nil {
			return nil, 0, err
		}
		return l, uint16(l.Addr().(*net.TCPAddr).Port), nil
	case network.UDP:
		c, err := d.listenUDP("udp"+suffix, a)
		if err != nil {
			return nil, 0, err
		}
		return c, uint16(c.LocalAddr().(*net.UDPAddr).Port), nil
	}
	return bindSCTP(a)
}

func (d *Driver) listenTCP(kind string, a netip.AddrPort) (*net.TCPListener, error) {
	if d.config.Ports != nil {
		return d.config.Ports.ListenTCP(kind, a)
	}
	return net.ListenTCP(kind, net.TCPAddrFromAddrPort(a))
}

func (d *Driver) listenUDP(kind string, a netip.AddrPort) (*net.UDPConn, error) {
	if d.config.Ports != nil {
		return d.config.Ports.ListenUDP(kind, a)
	}
	return net.ListenUDP(kind, net.UDPAddrFromAddrPort(a))
}

// socket is a descriptor that is only held.
type socket int

func (s socket) Close() error { return unix.Close(int(s)) }

// bindSCTP holds a port for a protocol that there is no proxy for. Where the host
// knows none of it nobody can take the port, and the kernel's translation does
// without; but then somebody must have chosen the number.
func bindSCTP(a netip.AddrPort) (io.Closer, uint16, error) {
	domain, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(a.Port()), Addr: first4(a.Addr())})
	if a.Addr().Is6() {
		domain, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if (err == unix.EPROTONOSUPPORT || err == unix.ESOCKTNOSUPPORT) && a.Port() != 0 {
		return io.NopCloser(nil), a.Port(), nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("sctp: %w: %w", err, errdefs.ErrNotImplemented)
	}
	if domain == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err = errors.Join(err, unix.Bind(fd, address)); err != nil {
		return nil, 0, errors.Join(err, unix.Close(fd))
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return nil, 0, errors.Join(err, unix.Close(fd))
	}
	switch got := got.(type) {
	case *unix.SockaddrInet4:
		return socket(fd), uint16(got.Port), nil
	case *unix.SockaddrInet6:
		return socket(fd), uint16(got.Port), nil
	}
	return nil, 0, errors.Join(errdefs.ErrUnknown, unix.Close(fd))
}

func first4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

// serve hands the sockets to proxies.
func (d *Driver) serve(b *bridged, h *held) {
	for i := range h.ports {
		p := &h.ports[i]
		if !p.to.Addr().IsValid() {
			continue
		}
		c := proxy.Config{To: p.to, Allow: d.mayEnter}
		if !d.own {
			c.Namespace = d.ns
		}
		switch s := p.Closer.(type) {
		case *net.TCPListener:
			p.Closer = proxy.TCP(s, c)
		case *net.UDPConn:
			p.Closer = proxy.UDP(s, c)
		}
	}
}

// mayEnter keeps sandboxes of internal networks from reaching others through the
// host's sockets. Their addresses can't be spoofed past the bridge's rules.
func (d *Driver) mayEnter(client netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.networks {
		for _, p := range n.Pools {
			if n.Internal && p.Subnet.Contains(client) && client != p.Gateway {
				return false
			}
		}
	}
	return true
}
