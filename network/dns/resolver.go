package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/orlop/orlop/network/namespace"
)

// Address is where resolvers listen.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Config is what a resolver needs.
type Config struct {
	// Sandbox is the path of the namespace, as endpoints name it.
	Sandbox string
	Table   *Table
	// Own knows names that only this sandbox has, in lower case and without the last
	// dot; nil is none. The table's come first.
	Own func(name string) (addresses []netip.Addr, known bool)
	// Upstream returns those who are asked what the table doesn't know, in order. It is
	// called for each such question, by many goroutines; nil is nobody.
	Upstream func() []Server
	// Limit is the most questions at once; 0 is 128. Those beyond it are dropped,
	// as a network would.
	Limit int
	// Timeout is how long one upstream is waited for; 0 is 4 seconds.
	Timeout time.Duration
}

// Server is one who is asked what the table doesn't know.
type Server struct {
	Address netip.AddrPort
	// Host tells that it is the host's, who asks it in the sandbox's stead: from this
	// process's namespace, and not for a sandbox that has internal networks alone. Others
	// are asked from the sandbox, which reaches what it reaches.
	Host bool
	// Spare ones are asked if none before them has answered.
	Spare bool
}

const (
	defaultLimit   = 128
	defaultTimeout = 4 * time.Second
	// maxQuestion is what a datagram may hold; questions are far smaller.
	maxQuestion = 4096
	// maxStreams bounds a sandbox's TCP connections, idle those that are quiet.
	maxStreams = 32
	idle       = 10 * time.Second
)

// Resolver answers one sandbox.
type Resolver struct {
	config Config
	ns     *namespace.Namespace
	udp    *net.UDPConn
	tcp    net.Listener
	places chan struct{}

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	streams map[net.Conn]struct{} // nil once closed
}

// Open starts to answer. Port 53 stays free for the sandbox: a rule of the sandbox's
// own leads questions to the port that is used instead.
func Open(c Config) (*Resolver, error) {
	if c.Limit == 0 {
		c.Limit = defaultLimit
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Upstream == nil {
		c.Upstream = func() []Server { return nil }
	}
	ns, err := namespace.Open(c.Sandbox)
	if err != nil {
		return nil, err
	}
	r := &Resolver{config: c, ns: ns, places: make(chan struct{}, c.Limit), streams: map[net.Conn]struct{}{}}
	if err := ns.Do(r.listen); err != nil {
		return nil, errors.Join(fmt.Errorf("resolver: %w", err), ns.Close())
	}
	udp, tcp := r.udp.LocalAddr().(*net.UDPAddr).Port, r.tcp.Addr().(*net.TCPAddr).Port
	if err := redirect(ns, uint16(udp), uint16(tcp)); err != nil {
		return nil, errors.Join(err, r.udp.Close(), r.tcp.Close(), ns.Close())
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.work.Add(2)
	go r.datagrams()
	go r.connections()
	return r, nil
}

// listen makes the sockets; it runs in the sandbox.
func (r *Resolver) listen() (err error) {
	if r.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: Address.AsSlice()}); err != nil {
		return err
	}
	if r.tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: Address.AsSlice()}); err != nil {
		return errors.Join(err, r.udp.Close())
	}
	return nil
}

// Close ends the resolver. The rule in the sandbox stays: it ends with the sandbox,
// and the next resolver replaces it.
func (r *Resolver) Close() error {
	r.cancel()
	err := errors.Join(r.udp.Close(), r.tcp.Close())
	r.mu.Lock()
	for c := range r.streams {
		c.Close()
	}
	r.streams = nil
	r.mu.Unlock()
	r.work.Wait()
	return errors.Join(err, r.ns.Close())
}

// begin takes a place for a question, if there is one.
func (r *Resolver) begin() bool {
	select {
	case r.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *Resolver) datagrams() {
	defer r.work.Done()
	buf := make([]byte, maxQuestion)
	for {
		n, from, err := r.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || !r.begin() {
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		r.work.Go(func() {
			defer func() { <-r.places }()
			if answer := r.answer(question, false); answer != nil {
				_, _ = r.udp.WriteToUDPAddrPort(answer, from)
			}
		})
	}
}

func (r *Resolver) connections() {
	defer r.work.Done()
	places := make(chan struct{}, maxStreams)
	for {
		select {
		case places <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		c, err := r.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-places
			select {
			case <-r.ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		r.work.Go(func() {
			defer func() { <-places }()
			r.stream(c)
		})
	}
}

// stream answers one question after the other (RFC 7766).
func (r *Resolver) stream(c net.Conn) {
	defer c.Close()
	r.mu.Lock()
	if r.streams == nil {
		r.mu.Unlock()
		return
	}
	r.streams[c] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.streams, c)
		r.mu.Unlock()
	}()
	for {
		_ = c.SetDeadline(time.Now().Add(idle))
		question, err := readFrame(c, maxQuestion)
		if err != nil || !r.begin() {
			return
		}
		answer := r.answer(question, true)
		<-r.places
		_ = c.SetDeadline(time.Now().Add(idle))
		if answer == nil || writeFrame(c, answer) != nil {
			return
		}
	}
}

func readFrame(r io.Reader, most int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > most {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
