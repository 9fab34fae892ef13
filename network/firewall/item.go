package firewall

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/orlop/orlop/network"
)

// Network is what the firewall knows of a network.
type Network struct {
	// Bridge is the name of the bridge device.
	Bridge   string
	Internal bool
	// Mode4 and Mode6 are the gateway modes.
	Mode4, Mode6 network.GatewayMode
	// Separate closes the way from one sandbox to another by the bridge's own address
	// MAC: over the bridge itself endpoints are separate.
	Separate bool
	MAC      net.HardwareAddr
	// Masquerade hides sandboxes behind the host in NAT modes.
	Masquerade bool
	// Source4 and Source6 are what they are hidden behind; the zero value is the
	// address of the interface by which a packet leaves.
	Source4, Source6 netip.Addr
	// Trusted are the host's interfaces by which published ports are reached at sandboxes'
	// own addresses in NAT mode, too.
	Trusted []string
}

// Endpoint is what the firewall knows of an endpoint.
type Endpoint struct {
	Network Network
	// Port is the name of the bridge's port.
	Port string
	MAC  net.HardwareAddr
	// Addresses are those it may use.
	Addresses []netip.Addr
	// Separate keeps it from others of its network, but for links.
	Separate bool
	Links    []Link
	// Strict refuses other MAC addresses and answers for other addresses.
	Strict    bool
	Published []Published
}

// Published is a published port.
type Published struct {
	Protocol network.Protocol
	// Address on the host; unspecified is every address of the family.
	Address netip.Addr
	Port    uint16
	// To is where it leads. It must be of the same family as Address; others are
	// for the proxy.
	To netip.AddrPort
}

func name16(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

// pad fills up to whole registers, as parts of a concatenation are.
func pad(b []byte) []byte { return append(b, make([]byte, (4-len(b)%4)%4)...) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, pad(p)...)
	}
	return out
}

func element(set string, parts ...[]byte) item {
	if len(parts) == 1 { // not concatenated
		return item{set, nftables.SetElement{Key: parts[0]}}
	}
	return item{set, nftables.SetElement{Key: join(parts...)}}
}

func to(set, key, chain string) item {
	return item{set, nftables.SetElement{Key: name16(key), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}}
}

// items are the elements of a network.
func (n Network) items() ([]item, error) {
	if err := network.CheckInterface(n.Bridge); err != nil {
		return nil, err
	}
	name := name16(n.Bridge)
	out := []item{element("bridges", name), element("same", name, name)}
	if n.Separate {
		out = append(out, element("apart", name, name, n.MAC))
	}
	if n.Internal {
		return append(out, to("from", n.Bridge, "from-internal"), to("to4", n.Bridge, "to-internal"), to("to6", n.Bridge, "to-internal")), nil
	}
	for _, f := range []struct {
		family string
		mode   network.GatewayMode
		source netip.Addr
	}{{"4", n.Mode4, n.Source4}, {"6", n.Mode6, n.Source6}} {
		switch f.mode {
		case network.NAT, "":
			out = append(out, to("to"+f.family, n.Bridge, "to-nat"))
		case network.NATUnprotected:
			out = append(out, to("to"+f.family, n.Bridge, "to-open"))
		case network.Routed:
			out = append(out, to("to"+f.family, n.Bridge, "to-routed"))
		default:
			return nil, fmt.Errorf("gateway mode %q: %w", f.mode, errdefs.ErrInvalidArgument)
		}
		switch {
		case !n.Masquerade || f.mode == network.Routed:
		case f.source.IsValid():
			i := element("source"+f.family, name)
			i.elem.Val = pad(f.source.AsSlice())
			out = append(out, i)
		default:
			out = append(out, element("masquerade"+f.family, name))
		}
	}
	return out, nil
}

// items are the elements of an endpoint.
func (e Endpoint) items() ([]item, error) {
	if err := network.CheckInterface(e.Port); err != nil {
		return nil, err
	}
	port := name16(e.Port)
	out := []item{element("ports", port), element("mirrors", port, port)}
	if e.Strict {
		out = append(out, element("strict", port), element("macs", port, e.MAC), element("nd6", port, linkLocal(e.MAC)))
	}
	for _, a := range e.Addresses {
		out = append(out, element("self"+suffix(a), a.AsSlice(), a.AsSlice()))
		if e.Strict && a.Is4() {
			out = append(out, element("arp4", port, a.AsSlice()))
		} else if e.Strict {
			out = append(out, element("nd6", port, a.AsSlice()))
		}
		if mode := e.Network.mode(a); mode == network.NAT || mode == "" || e.Network.Internal {
			out = append(out, element("guarded"+suffix(a), a.AsSlice()))
		}
		for _, name := range e.Network.trusted(a) {
			out = append(out, element("trusted"+suffix(a), name16(name), a.AsSlice()))
		}
	}
	if e.Separate {
		out = append(out, element("separate", port))
	}
	links, err := linkItems(e.Links)
	if err != nil {
		return nil, err
	}
	out = append(out, links...)
	for _, p := range e.Published {
		i, err := e.published(p)
		if err != nil {
			return nil, err
		}
		out = append(out, i...)
	}
	return out, nil
}

func suffix(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

func (n *Network) mode(a netip.Addr) network.GatewayMode {
	if a.Is4() {
		return n.Mode4
	}
	return n.Mode6
}

// trusted are the interfaces by which an address is reached that others don't reach.
func (n *Network) trusted(a netip.Addr) []string {
	if mode := n.mode(a); n.Internal || mode != network.NAT && mode != "" {
		return nil
	}
	return n.Trusted
}

// published are the elements of a published port.
func (e *Endpoint) published(p Published) ([]item, error) {
	number, err := protocolNumber(p.Protocol)
	if err != nil {
		return nil, err
	}
	proto, target := []byte{number}, p.To.Addr()
	out := e.translated(p, proto)
	if target.Is4() == p.Address.Is4() && len(e.Network.trusted(target)) > 0 {
		out = append(out, element("open"+suffix(target), proto, target.AsSlice(), word(p.To.Port())))
	}
	return out, nil
}

// translated are the elements by which a port is published at an address of the host, or
// opened where there is no translation.
func (e *Endpoint) translated(p Published, proto []byte) []item {
	port, target := word(p.Port), p.To.Addr()
	switch {
	case e.Network.Internal:
		return nil
	case target.Is4() != p.Address.Is4() && !p.Address.IsLoopback():
		return nil
	case p.Address.IsLoopback() && (target.Is4() != p.Address.Is4() || e.Network.mode(target) != network.Routed):
		return []item{element("local", proto, port)} // the proxy carries it
	case e.Network.mode(target) == network.Routed:
		return []item{element("open"+suffix(target), proto, target.AsSlice(), word(p.To.Port()))}
	}
	i := element("dnat"+suffix(target), proto, p.Address.AsSlice(), port)
	if p.Address.IsUnspecified() {
		i = element("any"+suffix(target), proto, port)
	}
	i.elem.Val = join(target.AsSlice(), word(p.To.Port()))
	out := []item{i}
	if e.Separate && p.Protocol != network.SCTP { // which has no proxy
		out = append(out, element("near"+suffix(target), name16(e.Network.Bridge), proto, p.Address.AsSlice(), port))
	}
	return out
}

func word(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// linkLocal is the IPv6 address that the kernel derives from a MAC address
// (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) []byte {
	out := make([]byte, 16)
	if len(mac) != 6 {
		return out
	}
	out[0], out[1] = 0xfe, 0x80
	copy(out[8:], mac[:3])
	out[8] ^= 2
	out[11], out[12] = 0xff, 0xfe
	copy(out[13:], mac[3:])
	return out
}
