package proxy

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// origin is who sent a datagram, and to which of the host's addresses. An answer that
// comes from another address is none to who asked.
type origin struct {
	from netip.AddrPort
	to   netip.Addr // the zero value is the kernel's choice
	link uint32     // the interface's index, for an address of its link alone
}

// controlRoom is what a datagram's destination takes, with its header.
const controlRoom = 128

// tellDestination has the kernel tell at which address datagrams arrive. Where it
// doesn't, it chooses from which address answers come.
func tellDestination(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

// originOf reads what the kernel tells beside a datagram: in_pktinfo and in6_pktinfo of
// ip(7) and ipv6(7).
func originOf(from netip.AddrPort, control []byte) origin {
	o := origin{from: from}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return o
	}
	for _, m := range messages {
		switch level, kind := m.Header.Level, m.Header.Type; {
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			o.to = netip.AddrFrom4([4]byte(m.Data[4:8]))
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			o.to = netip.AddrFrom16([16]byte(m.Data[:16]))
			if o.to.IsLinkLocalUnicast() {
				o.link = binary.NativeEndian.Uint32(m.Data[16:])
			}
		}
	}
	return o
}

// control tells the kernel from where an answer is to come.
func (o *origin) control() []byte {
	switch {
	case o.to.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: o.to.As4()})
	case o.to.Is6():
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: o.to.As16(), Ifindex: o.link})
	}
	return nil
}
