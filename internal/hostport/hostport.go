// Package hostport gives a process in a network namespace of its own sockets of
// another one, the host's: an [Agent] there opens them and passes them on. What listens
// is a socket like any other; nothing is copied on the way.
//
// Both ends talk over a pair of sockets that keeps messages whole, one question at a
// time. An agent serves one client and ends with it. A [Client] is safe for concurrent
// use; once the agent has gone all its calls fail.
package hostport

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// question asks for a socket.
type question struct {
	// Network is tcp4, tcp6, udp4 or udp6.
	Network string         `json:"network"`
	Address netip.AddrPort `json:"address"`
}

// answer goes with the socket, or says why there is none.
type answer struct {
	Errno syscall.Errno `json:"errno,omitempty"`
	Error string        `json:"error,omitempty"`
}

// maxMessage bounds a message, in bytes.
const maxMessage = 4096

// Pair makes the two ends; the files are the caller's to close.
func Pair() (agent, client *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "agent of ports"), os.NewFile(uintptr(fds[1]), "client of ports"), nil
}

// Serve answers until the client has gone.
func Serve(f *os.File) error {
	buf := make([]byte, maxMessage)
	for {
		n, err := receive(f, buf, nil)
		if err != nil || n == 0 {
			return err
		}
		var q question
		if err := json.Unmarshal(buf[:n], &q); err != nil {
			return fmt.Errorf("question of a client: %w", err)
		}
		if err := q.reply(f); err != nil {
			return err
		}
	}
}

func (q *question) reply(f *os.File) error {
	socket, err := q.open()
	a, rights := answer{}, []byte(nil)
	if err != nil {
		a.Error = err.Error()
		errors.As(err, &a.Errno)
	} else {
		defer socket.Close()
		rights = unix.UnixRights(int(socket.Fd()))
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return unix.Sendmsg(int(f.Fd()), data, rights, nil, unix.MSG_NOSIGNAL)
}

// open opens the socket in this process's namespace.
func (q *question) open() (*os.File, error) {
	switch q.Network {
	case "tcp4", "tcp6":
		l, err := net.ListenTCP(q.Network, net.TCPAddrFromAddrPort(q.Address))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		return l.File()
	case "udp4", "udp6":
		c, err := net.ListenUDP(q.Network, net.UDPAddrFromAddrPort(q.Address))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.File()
	}
	return nil, fmt.Errorf("network %q: %w", q.Network, unix.EPROTONOSUPPORT)
}

// Client asks for sockets.
type Client struct {
	mu sync.Mutex
	f  *os.File
}

// NewClient takes over its end of a pair.
func NewClient(f *os.File) *Client { return &Client{f: f} }

// ListenTCP is net.ListenTCP where the agent is.
func (c *Client) ListenTCP(network string, at netip.AddrPort) (*net.TCPListener, error) {
	f, err := c.ask(question{network, at})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// ListenUDP is net.ListenUDP where the agent is.
func (c *Client) ListenUDP(network string, at netip.AddrPort) (*net.UDPConn, error) {
	f, err := c.ask(question{network, at})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.UDPConn), nil
}

func (c *Client) ask(q question) (*os.File, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := unix.Sendmsg(int(c.f.Fd()), data, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, fmt.Errorf("agent of ports: %w", err)
	}
	buf := make([]byte, maxMessage)
	var got *os.File
	n, err := receive(c.f, buf, &got)
	if err == nil && n == 0 {
		err = errors.New("it has gone")
	}
	if err != nil {
		return nil, fmt.Errorf("agent of ports: %w", err)
	}
	var a answer
	if err := json.Unmarshal(buf[:n], &a); err != nil {
		return nil, fmt.Errorf("agent of ports: %w", err)
	}
	switch {
	case a.Errno != 0:
		return nil, os.NewSyscallError("listen "+q.Address.String(), a.Errno)
	case a.Error != "":
		return nil, errors.New(a.Error)
	case got == nil:
		return nil, errors.New("agent of ports: an answer without a socket")
	}
	return got, nil
}

// receive reads a message, and the file that came with it.
func receive(f *os.File, buf []byte, file **os.File) (int, error) {
	space := make([]byte, unix.CmsgSpace(4))
	for {
		n, control, _, _, err := unix.Recvmsg(int(f.Fd()), buf, space, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || control == 0 {
			return n, err
		}
		list, err := unix.ParseSocketControlMessage(space[:control])
		if err != nil {
			return n, err
		}
		for _, m := range list {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return n, err
			}
			for _, fd := range fds {
				if file == nil || *file != nil {
					unix.Close(fd)
					continue
				}
				*file = os.NewFile(uintptr(fd), "socket of the host")
			}
		}
		return n, nil
	}
}
