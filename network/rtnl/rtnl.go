// Package rtnl speaks rtnetlink in batches: what makes an interface ready is one
// write and one read per namespace.
//
// A [Conn] belongs to the namespace in which it was opened. It is safe for
// concurrent use; requests of one Conn go one after the other.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
)

// Conn is a socket to a namespace's routing.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
}

// Open makes a socket in a namespace, nil for the thread's.
func Open(ns *namespace.Namespace) (*Conn, error) {
	c := &Conn{fd: -1}
	open := func() (err error) {
		if c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("netlink socket: %w", err)
		}
		return nil
	}
	if ns == nil {
		return c, open()
	}
	if err := ns.Do(open); err != nil {
		return nil, err
	}
	// Errors repeat the request unless told otherwise; nobody needs it.
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		unix.Close(c.fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// errno gives the kernel's answers their class.
func classed(e unix.Errno) error {
	switch e {
	case unix.EEXIST, unix.EBUSY:
		return fmt.Errorf("%w: %w", e, errdefs.ErrAlreadyExists)
	case unix.ENODEV, unix.ENOENT:
		return fmt.Errorf("%w: %w", e, errdefs.ErrNotFound)
	case unix.EOPNOTSUPP, unix.EAFNOSUPPORT:
		return fmt.Errorf("%w: %w", e, errdefs.ErrNotImplemented)
	case unix.EINVAL, unix.ERANGE:
		return fmt.Errorf("%w: %w", e, errdefs.ErrInvalidArgument)
	}
	return e
}

// maxBatch bounds how much is written at once, so that all answers fit into the
// socket's buffer.
const maxBatch = 64

// Do sends the messages at once. The kernel carries out all of them, also those
// behind one that it refuses; the refusals are returned joined.
func (c *Conn) Do(messages ...Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for part := range slices.Chunk(messages, maxBatch) {
		errs = append(errs, c.send(part))
	}
	return errors.Join(errs...)
}

func (c *Conn) send(messages []Message) error {
	first := c.seq + 1
	var out []byte
	for _, m := range messages {
		out = c.appendMessage(out, m, unix.NLM_F_ACK)
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	var errs []error
	for left := len(messages); left > 0; {
		answers, err := c.receive()
		if err != nil {
			return err
		}
		for _, a := range answers {
			i := a.Header.Seq - first
			if a.Header.Type != unix.NLMSG_ERROR || i >= uint32(len(messages)) || len(a.Data) < 4 {
				continue
			}
			left--
			e := unix.Errno(-int32(binary.NativeEndian.Uint32(a.Data)))
			if m := messages[i]; e != 0 && !slices.Contains(m.fine, e) {
				errs = append(errs, fmt.Errorf("%s: %w", m.what, classed(e)))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Conn) appendMessage(out []byte, m Message, flags uint16) []byte {
	c.seq++
	out = binary.NativeEndian.AppendUint32(out, uint32(unix.NLMSG_HDRLEN+len(m.body)))
	out = binary.NativeEndian.AppendUint16(out, m.kind)
	out = binary.NativeEndian.AppendUint16(out, m.flags|flags|unix.NLM_F_REQUEST)
	out = binary.NativeEndian.AppendUint32(out, c.seq)
	out = binary.NativeEndian.AppendUint32(out, 0)
	return append(out, m.body...) // bodies are padded already
}

func (c *Conn) receive() ([]syscall.NetlinkMessage, error) {
	buf := make([]byte, 64<<10) // the kernel's dumps come in pieces of at most 32 KiB
	n, _, err := unix.Recvfrom(c.fd, buf, 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(c.fd, buf, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	answers, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return answers, nil
}

// dump asks for everything of a kind.
func (c *Conn) dump(m Message, each func(syscall.NetlinkMessage) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.appendMessage(nil, m, 0)
	seq := c.seq
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	for {
		answers, err := c.receive()
		if err != nil {
			return err
		}
		for _, a := range answers {
			switch {
			case a.Header.Seq != seq:
			case a.Header.Type == unix.NLMSG_DONE:
				return nil
			case a.Header.Type == unix.NLMSG_ERROR:
				return fmt.Errorf("%s: %w", m.what, classed(unix.Errno(-int32(binary.NativeEndian.Uint32(a.Data)))))
			default:
				if err := each(a); err != nil {
					return err
				}
				if m.flags&unix.NLM_F_DUMP == 0 {
					return nil
				}
			}
		}
	}
}

// Link finds an interface by its name. It returns ErrNotFound if there is none.
func (c *Conn) Link(name string) (Link, error) {
	var out Link
	ask := Link{Name: name}
	err := c.dump(Message{what: "interface " + name, kind: unix.RTM_GETLINK, body: ask.body()}, func(a syscall.NetlinkMessage) (err error) {
		out, err = readLink(a)
		return err
	})
	return out, err
}

// Links lists all interfaces.
func (c *Conn) Links() ([]Link, error) {
	var out []Link
	m := Message{what: "interfaces", kind: unix.RTM_GETLINK, flags: unix.NLM_F_DUMP, body: (&Link{}).body()}
	err := c.dump(m, func(a syscall.NetlinkMessage) error {
		l, err := readLink(a)
		out = append(out, l)
		return err
	})
	return out, err
}

func readLink(a syscall.NetlinkMessage) (Link, error) {
	attrs, err := syscall.ParseNetlinkRouteAttr(&a)
	if err != nil || len(a.Data) < unix.SizeofIfInfomsg {
		return Link{}, fmt.Errorf("netlink: interface: %w", errors.Join(err, errdefs.ErrUnknown))
	}
	l := Link{Index: int(binary.NativeEndian.Uint32(a.Data[4:])), Up: binary.NativeEndian.Uint32(a.Data[8:])&unix.IFF_UP != 0}
	for _, x := range attrs {
		switch x.Attr.Type {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(x.Value)
		case unix.IFLA_IFALIAS:
			l.Alias = unix.ByteSliceToString(x.Value)
		case unix.IFLA_ADDRESS:
			l.MAC = net.HardwareAddr(slices.Clone(x.Value))
		case unix.IFLA_MTU:
			l.MTU = int(binary.NativeEndian.Uint32(x.Value))
		case unix.IFLA_MASTER:
			l.Master = int(binary.NativeEndian.Uint32(x.Value))
		case unix.IFLA_LINKINFO:
			l.Kind = kindOf(x.Value)
		}
	}
	return l, nil
}

// kindOf finds the kind among a link's nested attributes.
func kindOf(b []byte) string {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return ""
		}
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFLA_INFO_KIND {
			return unix.ByteSliceToString(b[4:n])
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return ""
}

// Routes lists where the namespace's routes lead to, of both families, the routes to
// itself not among them.
func (c *Conn) Routes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	m := Message{what: "routes", kind: unix.RTM_GETROUTE, flags: unix.NLM_F_DUMP, body: make([]byte, unix.SizeofRtMsg)}
	err := c.dump(m, func(a syscall.NetlinkMessage) error {
		attrs, err := syscall.ParseNetlinkRouteAttr(&a)
		if err != nil {
			return fmt.Errorf("netlink: route: %w", err)
		}
		if a.Data[7] != unix.RTN_UNICAST {
			return nil
		}
		for _, x := range attrs {
			if ip, ok := netip.AddrFromSlice(x.Value); ok && x.Attr.Type == unix.RTA_DST {
				out = append(out, netip.PrefixFrom(ip, int(a.Data[1])))
			}
		}
		return nil
	})
	return out, err
}
