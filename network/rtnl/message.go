package rtnl

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Message is one request to the kernel.
type Message struct {
	what  string // for errors
	kind  uint16
	flags uint16
	body  []byte
	// fine are errors that mean that there was nothing to do.
	fine []unix.Errno
}

// Unless makes an error mean that there was nothing to do.
func (m Message) Unless(fine ...unix.Errno) Message {
	m.fine = append(m.fine, fine...)
	return m
}

// attribute appends one attribute, padded to four bytes.
func attribute(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, (4-len(data)%4)%4)...)
}

func text(b []byte, kind uint16, s string) []byte { return attribute(b, kind, append([]byte(s), 0)) }

func number(b []byte, kind uint16, n uint32) []byte {
	return attribute(b, kind, binary.NativeEndian.AppendUint32(nil, n))
}

// Link is a network interface: as wished, or as it is.
type Link struct {
	// Index names an interface that exists; 0 leaves that to Name, or lets the
	// kernel choose.
	Index int
	Name  string
	// Kind is bridge, veth, macvlan, …
	Kind   string
	Alias  string
	MTU    int
	MAC    net.HardwareAddr
	Master int
	Up     bool
	// Group is a number by which interfaces can be removed together; 0 is none.
	Group uint32
	// Parent is the interface that a macvlan is on.
	Parent int
	// Namespace is the descriptor of where it is made, 0 for the socket's.
	Namespace int
	// Peer is the other end of a veth.
	Peer *Link
	// Data are the attributes of its kind, as from [Number].
	Data []byte
	// Port are the attributes of a bridge's port.
	Port []byte
}

// Number is one numeric attribute for Link.Data.
func Number(kind uint16, n uint32) []byte { return number(nil, kind, n) }

// Short is one attribute of two bytes for Link.Data.
func Short(kind, n uint16) []byte {
	return attribute(nil, kind, binary.NativeEndian.AppendUint16(nil, n))
}

// Byte is one small attribute for Link.Data or Link.Port.
func Byte(kind uint16, n byte) []byte { return attribute(nil, kind, []byte{n}) }

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// Attributes of a bridge's port (IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED of
// linux/if_link.h): whether it takes its own frames back, and whether it is kept from
// other such ports.
const (
	PortHairpin  = 4
	PortIsolated = 33
)

func (l *Link) body() []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(l.Index))
	if l.Up {
		binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)
		binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP)
	}
	if l.Name != "" && l.Index == 0 {
		b = text(b, unix.IFLA_IFNAME, l.Name)
	}
	if l.Alias != "" {
		b = attribute(b, unix.IFLA_IFALIAS, []byte(l.Alias))
	}
	if l.MTU > 0 {
		b = number(b, unix.IFLA_MTU, uint32(l.MTU))
	}
	if l.MAC != nil {
		b = attribute(b, unix.IFLA_ADDRESS, l.MAC)
	}
	if l.Master > 0 {
		b = number(b, unix.IFLA_MASTER, uint32(l.Master))
	}
	if l.Group > 0 {
		b = number(b, unix.IFLA_GROUP, l.Group)
	}
	if l.Parent > 0 {
		b = number(b, unix.IFLA_LINK, uint32(l.Parent))
	}
	if l.Namespace > 0 {
		b = number(b, unix.IFLA_NET_NS_FD, uint32(l.Namespace))
	}
	if info := l.info(); len(info) > 0 {
		b = attribute(b, unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info)
	}
	return b
}

func (l *Link) info() []byte {
	var b []byte
	if l.Kind != "" {
		b = text(b, unix.IFLA_INFO_KIND, l.Kind)
	}
	data := l.Data
	if l.Peer != nil {
		data = attribute(data, vethInfoPeer|unix.NLA_F_NESTED, l.Peer.body())
	}
	if len(data) > 0 {
		b = attribute(b, unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, data)
	}
	if len(l.Port) > 0 {
		b = text(b, unix.IFLA_INFO_SLAVE_KIND, "bridge")
		b = attribute(b, unix.IFLA_INFO_SLAVE_DATA|unix.NLA_F_NESTED, l.Port)
	}
	return b
}

// NewLink makes an interface, a veth with its peer. The kernel takes neither an
// alias nor a port's attributes with it; SetLink does.
func NewLink(l Link) Message {
	return Message{what: "make " + l.Kind + " " + l.Name, kind: unix.RTM_NEWLINK, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: l.body()}
}

// SetLink changes an interface, found by its index or name.
func SetLink(l Link) Message {
	return Message{what: "set up " + l.Name, kind: unix.RTM_NEWLINK, body: l.body()}
}

// DelLink removes an interface; one that isn't there is no error.
func DelLink(name string) Message {
	l := Link{Name: name}
	return Message{what: "remove " + name, kind: unix.RTM_DELLINK, body: l.body(), fine: []unix.Errno{unix.ENODEV}}
}

// DelGroup removes all interfaces of a group, for the price of one.
func DelGroup(group uint32) Message {
	l := Link{Group: group}
	return Message{what: "remove group", kind: unix.RTM_DELLINK, body: l.body()}
}

// NewAddress gives an interface an address. IPv6 addresses can be used at once,
// without the wait for duplicates: who has which is known.
func NewAddress(index int, p netip.Prefix) Message {
	b := []byte{family(p.Addr()), byte(p.Bits()), 0, 0, 0, 0, 0, 0}
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	ip := p.Addr().AsSlice()
	b = attribute(b, unix.IFA_LOCAL, ip)
	b = attribute(b, unix.IFA_ADDRESS, ip)
	if p.Addr().Is6() {
		b = number(b, unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_PERMANENT)
	} else if p.Bits() < 31 {
		broadcast := p.Masked().Addr().As4()
		n := binary.BigEndian.Uint32(broadcast[:]) | (uint32(1)<<(32-p.Bits()) - 1)
		b = attribute(b, unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, n))
	}
	return Message{what: "address " + p.String(), kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}
}

// DefaultRoute is a route to everywhere through a gateway; with a zero gateway all
// of the family is on the link.
func DefaultRoute(index int, gateway netip.Addr, v6 bool, metric uint32) Message {
	b := make([]byte, unix.SizeofRtMsg)
	b[0] = unix.AF_INET
	if v6 {
		b[0] = unix.AF_INET6
	}
	b[4], b[5], b[6], b[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	b = number(b, unix.RTA_OIF, uint32(index))
	if gateway.IsValid() {
		b = attribute(b, unix.RTA_GATEWAY, gateway.AsSlice())
	} else {
		b[6] = unix.RT_SCOPE_LINK
	}
	if metric > 0 {
		b = number(b, unix.RTA_PRIORITY, metric)
	}
	return Message{what: "default route", kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, body: b}
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
