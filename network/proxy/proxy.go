// Package proxy carries connections from the host to a published port where the
// kernel can't translate: from the loopback, whose packets may not leave it, and
// from one IP family to the other. The port's socket also keeps others from taking
// the port.
//
// A [Proxy] owns the socket that it is given. It has a bound of connections (TCP) or
// clients (UDP); whoever comes later waits in the kernel's queue (TCP), or takes the
// place of the client that was quiet longest (UDP). [Proxy.Close] closes everything
// and returns when no goroutine is left.
package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/orlop/orlop/network/namespace"
)

// Config tells where to.
type Config struct {
	// To is the sandbox's address and port.
	To netip.AddrPort
	// Namespace is where connections are made; nil is the process's own.
	Namespace *namespace.Namespace
	// Allow refuses clients by their address; nil allows all.
	Allow func(netip.Addr) bool
	// Limit is the most connections or clients at once; 0 is 1024.
	Limit int
	// Idle is how long a UDP client may be quiet; 0 is 90 seconds.
	Idle time.Duration
}

const (
	defaultLimit = 1024
	defaultIdle  = 90 * time.Second
	dialTimeout  = 10 * time.Second
)

// Proxy is a running proxy of one port.
type Proxy struct {
	config Config
	socket io.Closer
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	conns map[io.Closer]struct{} // nil once closed
}

func start(socket io.Closer, c Config) *Proxy {
	if c.Limit == 0 {
		c.Limit = defaultLimit
	}
	if c.Idle == 0 {
		c.Idle = defaultIdle
	}
	p := &Proxy{config: c, socket: socket, conns: map[io.Closer]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends the proxy.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.socket.Close()
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	p.work.Wait()
	return err
}

// keep remembers what Close must close; it reports false when that has happened.
func (p *Proxy) keep(c io.Closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c io.Closer) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}

func (p *Proxy) allows(a net.Addr) bool {
	if p.config.Allow == nil {
		return true
	}
	client, err := netip.ParseAddrPort(a.String())
	return err == nil && p.config.Allow(client.Addr().Unmap().WithZone(""))
}

// dial connects to the sandbox.
func (p *Proxy) dial(network string) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	dial := func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, network, p.config.To.String())
		return err
	}
	if p.config.Namespace == nil {
		return c, dial()
	}
	return c, p.config.Namespace.Do(dial)
}

// TCP starts a proxy of connections.
func TCP(l net.Listener, c Config) *Proxy {
	p := start(l, c)
	p.work.Add(1)
	go p.accept(l)
	return p
}

func (p *Proxy) accept(l net.Listener) {
	defer p.work.Done()
	places := make(chan struct{}, p.config.Limit)
	for {
		select {
		case places <- struct{}{}:
		case <-p.ctx.Done():
			return
		}
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files: wait for better times
			<-places
			select {
			case <-p.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			defer func() { <-places }()
			p.carry(c.(*net.TCPConn))
		}()
	}
}

// carry connects two ends until both have nothing more to say.
func (p *Proxy) carry(client *net.TCPConn) {
	if !p.keep(client) {
		client.Close()
		return
	}
	defer p.drop(client)
	if !p.allows(client.RemoteAddr()) {
		return
	}
	c, err := p.dial("tcp")
	if err != nil {
		_ = client.SetLinger(0) // a reset, as from a port where nobody listens
		return
	}
	server := c.(*net.TCPConn)
	if !p.keep(server) {
		server.Close()
		return
	}
	defer p.drop(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		half(server, client)
	}()
	half(client, server)
	<-done
}

// half copies one direction. Its orderly end is passed on and leaves the other
// direction open; an error ends both.
func half(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite()
}
