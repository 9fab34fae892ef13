package bridge

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network"
)

// The kernel decides where a flow of datagrams goes at its first packet, and who goes
// on sending keeps the flow: to a port that wasn't published yet, or to a sandbox that
// is gone. So flows are forgotten when a port changes hands. Connections end by
// themselves. All flows of the host are read for it, which takes 0.1 s on a busy one;
// only endpoints that publish datagram ports pay.

// forget forgets flows to an endpoint's published datagram ports: those that lead to
// it, or those that lead elsewhere.
func (d *Driver) forget(e *network.Endpoint, leadHere bool) error {
	f := &toPorts{ports: map[uint16]bool{}, leadHere: leadHere}
	for _, p := range e.Ports {
		if p.Protocol == network.UDP {
			f.ports[p.Host] = true
		}
	}
	if len(f.ports) == 0 {
		return nil
	}
	for _, a := range e.Addresses {
		f.addresses = append(f.addresses, a.Addr().AsSlice())
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(d.ns.FD()), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("flows: %w", err)
	}
	defer h.Close()
	f.sandbox = d.isSandbox
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, family, f); err != nil {
			return fmt.Errorf("flows: %w", err)
		}
	}
	return nil
}

// toPorts chooses flows of datagrams.
type toPorts struct {
	ports     map[uint16]bool
	addresses []net.IP
	leadHere  bool
	sandbox   func(netip.Addr) bool
}

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (f *toPorts) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP || !f.ports[flow.Forward.DstPort] {
		return false
	}
	// What sandboxes say to each other at these ports is their own.
	if to, ok := netip.AddrFromSlice(flow.Forward.DstIP); !ok || f.sandbox(to.Unmap()) {
		return false
	}
	here := false
	for _, a := range f.addresses {
		here = here || a.Equal(flow.Reverse.SrcIP)
	}
	return here == f.leadHere
}

// isSandbox tells whether an address is a sandbox's.
func (d *Driver) isSandbox(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.networks {
		for _, p := range n.Pools {
			if p.Subnet.Contains(a) && p.Gateway != a {
				return true
			}
		}
	}
	return false
}

// drain drops the datagrams that came before their flow was forgotten: answers of the
// proxy would make the kernel remember it.
func drain(ports []port) {
	var buf [1]byte
	for _, p := range ports {
		c, ok := p.Closer.(*net.UDPConn)
		if !ok {
			continue
		}
		raw, err := c.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Read(func(fd uintptr) bool {
			for range 1 << 16 {
				if _, _, err := unix.Recvfrom(int(fd), buf[:], unix.MSG_DONTWAIT); err != nil {
					break
				}
			}
			return true
		})
	}
}
