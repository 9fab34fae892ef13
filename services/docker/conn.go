package docker

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	once sync.Once
	free func()
}

func newSlotConn(c net.Conn, free func()) net.Conn { return &slotConn{Conn: c, free: free} }

// Close closes the connection.
func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}

// CloseWrite ends this side, where the connection has two.
func (c *slotConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SyscallConn is the connection's, where it has a descriptor.
func (c *slotConn) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
