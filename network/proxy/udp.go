package proxy

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxDatagram is the most that UDP carries.
const maxDatagram = 65507

// UDP starts a proxy of datagrams. Each client has a socket of its own towards the
// sandbox, so that answers find back. They come from the address that was asked.
func UDP(conn *net.UDPConn, c Config) *Proxy {
	p := start(conn, c)
	tellDestination(conn)
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		(&datagrams{Proxy: p, conn: conn, clients: map[origin]*client{}}).serve()
	}()
	return p
}

type datagrams struct {
	*Proxy
	conn *net.UDPConn

	lock    sync.Mutex
	clients map[origin]*client
}

type client struct {
	net.Conn
	origin
	// used is when it last sent or got something; the datagrams' lock guards it.
	used time.Time
}

func (d *datagrams) serve() {
	buf, oob := make([]byte, maxDatagram), make([]byte, controlRoom)
	for {
		n, m, _, from, err := d.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		if c := d.client(originOf(from, oob[:m])); c != nil {
			_, _ = c.Write(buf[:n])
		}
	}
}

// client finds a sender's socket or makes it.
func (d *datagrams) client(o origin) *client {
	d.lock.Lock()
	c := d.clients[o]
	if c != nil {
		c.used = time.Now()
	}
	d.lock.Unlock()
	if c != nil {
		return c
	}
	if !d.allows(net.UDPAddrFromAddrPort(o.from)) {
		return nil
	}
	conn, err := d.dial("udp")
	if err != nil {
		return nil
	}
	c = &client{Conn: conn, origin: o, used: time.Now()}
	if !d.keep(c) {
		conn.Close()
		return nil
	}
	d.lock.Lock()
	if len(d.clients) >= d.config.Limit {
		d.evict()
	}
	d.clients[o] = c
	d.lock.Unlock()
	d.work.Add(1)
	go d.answers(c)
	return c
}

// evict closes the client that was quiet longest. The lock is held.
func (d *datagrams) evict() {
	var oldest *client
	for _, c := range d.clients {
		if oldest == nil || c.used.Before(oldest.used) {
			oldest = c
		}
	}
	delete(d.clients, oldest.origin)
	oldest.Close() // its goroutine ends by that
}

// answers carries a client's answers until it has been quiet for too long.
func (d *datagrams) answers(c *client) {
	defer d.work.Done()
	defer d.drop(c)
	defer func() {
		d.lock.Lock()
		if d.clients[c.origin] == c {
			delete(d.clients, c.origin)
		}
		d.lock.Unlock()
	}()
	buf, oob := make([]byte, maxDatagram), c.control()
	for {
		d.lock.Lock()
		until := c.used.Add(d.config.Idle)
		d.lock.Unlock()
		if !time.Now().Before(until) {
			return
		}
		_ = c.SetReadDeadline(until)
		n, err := c.Read(buf)
		if err != nil {
			var timeout net.Error
			if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &timeout) && timeout.Timeout() {
				continue // nobody listens yet, or it has sent something meanwhile
			}
			return
		}
		if _, _, err := d.conn.WriteMsgUDPAddrPort(buf[:n], oob, c.from); errors.Is(err, net.ErrClosed) {
			return
		}
		d.lock.Lock()
		c.used = time.Now()
		d.lock.Unlock()
	}
}
