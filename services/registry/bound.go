package registry

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Bounds are what clients may take of a registry. A 0 is no bound.
type Bounds struct {
	// Stall is how long a client may neither send nor take [leastProgress].
	Stall time.Duration
	// Connections are those of all clients together, and of one address.
	Connections, ConnectionsOfOne int
	// Uploads are the requests with a body that one client may send side by side; Open
	// the uploads that it may have begun and not finished. A client is who has logged
	// in, or else an address.
	Uploads, Open int
}

// DefaultBounds are generous to clients that work.
func DefaultBounds() Bounds {
	return Bounds{Stall: time.Minute, Connections: 8192, ConnectionsOfOne: 1024, Uploads: 128, Open: 1000}
}

// Validate checks all values.
func (b Bounds) Validate() error {
	if b.Stall < 0 || b.Connections < 0 || b.ConnectionsOfOne < 0 || b.Uploads < 0 || b.Open < 0 {
		return fmt.Errorf("a bound can't be negative: %+v", b)
	}
	return nil
}

// header is how long a request's header may take.
func (b Bounds) header() time.Duration {
	if b.Stall > 0 {
		return min(b.Stall, headerWait)
	}
	return headerWait
}

// bounded is a listener that takes no more connections than it may. What is one too
// many of all waits to be accepted; what is one too many of an address is closed.
type bounded struct {
	net.Listener
	slots chan struct{} // nil: no bound
	ofOne int
	gone  chan struct{}
	once  sync.Once

	mu    sync.Mutex
	taken map[string]int // by address
}

func (b Bounds) listen(l net.Listener) net.Listener {
	out := &bounded{Listener: l, ofOne: b.ConnectionsOfOne, gone: make(chan struct{}), taken: map[string]int{}}
	if b.Connections > 0 {
		out.slots = make(chan struct{}, b.Connections)
	}
	return out
}

// Accept waits for a connection, and for room.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		if b.slots != nil {
			select {
			case b.slots <- struct{}{}:
			case <-b.gone:
				return nil, net.ErrClosed
			}
		}
		c, err := b.Listener.Accept()
		if err != nil {
			b.free()
			return nil, err
		}
		from := addressOf(c.RemoteAddr().String())
		if b.enter(from) {
			return b.wrap(c, from), nil
		}
		c.Close()
		b.free()
	}
}

func (b *bounded) wrap(c net.Conn, from string) net.Conn {
	end := sync.OnceFunc(func() {
		b.leave(from)
		b.free()
	})
	if t, ok := c.(*net.TCPConn); ok {
		return &boundConn{t, end} // what it embeds is known to sendfile(2)
	}
	return &boundOther{c, end}
}

func (b *bounded) free() {
	if b.slots != nil {
		<-b.slots
	}
}

func (b *bounded) enter(from string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ofOne > 0 && b.taken[from] >= b.ofOne {
		return false
	}
	b.taken[from]++
	return true
}

func (b *bounded) leave(from string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken[from]--; b.taken[from] == 0 {
		delete(b.taken, from)
	}
}

// Close ends the waiting, too.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.gone) })
	return b.Listener.Close()
}

// boundConn makes room when it is closed.
type boundConn struct {
	*net.TCPConn
	end func()
}

// Close makes room.
func (c *boundConn) Close() error {
	defer c.end()
	return c.TCPConn.Close()
}

// boundOther is the same for what is no TCP.
type boundOther struct {
	net.Conn
	end func()
}

// Close makes room.
func (c *boundOther) Close() error {
	defer c.end()
	return c.Conn.Close()
}

// addressOf is the host of host:port.
func addressOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// clients counts what each client has under way. It is safe for concurrent use; an
// entry is there while there is something.
type clients struct {
	mu      sync.Mutex
	sending map[string]int
	open    map[string]map[string]struct{} // uploads by name, of each client
	owner   map[string]string              // of an upload
}

var errMany = errors.New("too many")

// send counts a request with a body, until done is called.
func (c *clients) send(client string, most int) (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && c.sending[client] >= most {
		return nil, errMany
	}
	if c.sending == nil {
		c.sending = map[string]int{}
	}
	c.sending[client]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.sending[client]--; c.sending[client] == 0 {
			delete(c.sending, client)
		}
	}, nil
}

// begin counts an upload until [clients.end]. Before it refuses one, it asks which of
// the others are still there.
func (c *clients) begin(client, upload string, most int, there func(upload string) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && len(c.open[client]) >= most {
		for name := range c.open[client] {
			if !there(name) {
				c.drop(name)
			}
		}
		if len(c.open[client]) >= most {
			return errMany
		}
	}
	if c.open == nil {
		c.open, c.owner = map[string]map[string]struct{}{}, map[string]string{}
	}
	if c.open[client] == nil {
		c.open[client] = map[string]struct{}{}
	}
	c.open[client][upload], c.owner[upload] = struct{}{}, client
	return nil
}

// end forgets an upload.
func (c *clients) end(upload string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(upload)
}

func (c *clients) drop(upload string) {
	client, ok := c.owner[upload]
	if !ok {
		return
	}
	delete(c.owner, upload)
	if delete(c.open[client], upload); len(c.open[client]) == 0 {
		delete(c.open, client)
	}
}
