// Package hijack is for connections that stop to speak HTTP after the head of an answer.
//
// Some clients (docker-py) read the head through a buffer and what follows from the socket
// itself: what comes along with the head is lost to them. So the first bytes after it wait
// until it was read.
package hijack

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// headWait bounds the wait for the head to be read.
	headWait = 20 * time.Millisecond
	// headStep is how long to wait before looking again.
	headStep = 50 * time.Microsecond
)

// conn is a connection whose head was sent.
type conn struct {
	net.Conn
	once sync.Once
}

// AfterHead is a connection on which the head was sent: the first Write waits, for 20 ms at
// the most, until the other side has read that. Only unix sockets tell; others don't wait.
func AfterHead(c net.Conn) net.Conn { return &conn{Conn: c} }

// Write waits before the first bytes.
func (c *conn) Write(p []byte) (int, error) {
	c.once.Do(c.await)
	return c.Conn.Write(p)
}

func (c *conn) await() {
	sock, ok := c.Conn.(syscall.Conn)
	if !ok || c.LocalAddr().Network() != "unix" {
		return
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return
	}
	for until := time.Now().Add(headWait); unread(raw) && time.Now().Before(until); {
		time.Sleep(headStep)
	}
}

// unread tells whether the other side has yet to read something (unix(7), SIOCOUTQ).
func unread(raw syscall.RawConn) bool {
	n := 0
	err := raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return err == nil && n > 0
}
