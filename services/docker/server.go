// Package docker serves the Docker Engine API: each request is decoded, one use-case
// of services/engine is called, and its result is encoded.
//
// # Versions
//
// Routes exist bare and under /vX.YY. Inside, everything has the form of
// [MaxVersion]; what older clients get differently is in compat.go.
//
// # Streams
//
// Attach and exec take the connection over (hijack): from then on it carries the
// container's streams, as they are for a terminal, else in frames of an 8-byte
// header. The end of the client's side is the end of standard input.
//
// # Trust
//
// Who may connect is root: the socket is its owner's alone, and who comes by TCP shows
// a certificate. Web pages are refused on both. Bodies, headers and the number of
// connections are bounded all the same. A Server keeps nothing.
package docker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/services/build"
	"github.com/orlop/orlop/services/engine"
)

// Bounds of requests.
const (
	maxBody      = 4 << 20 // of JSON, in bytes
	maxHeader    = 1 << 20
	headerWait   = 30 * time.Second
	closeWait    = 3 * time.Second
	maxOpenConns = 4096
)

// Info is what a client is told of the daemon.
type Info struct {
	Version, Revision string
	Root              string // where it keeps things
	ID                string
	Address           string // of the containerd API, for those who look there
	Debug             bool   // whether it logs much
	Experimental      bool   // whether clients may offer what is experimental with Docker
}

// Server is the door.
type Server struct {
	path   string
	engine *engine.Engine
	// builder is nil where no images are built.
	builder *build.Builder
	builds  builds
	info    Info
	http    *http.Server
	stop    context.CancelFunc
}

// Serve serves on listeners; the builder may be nil. The path is the first one's, for showing.
func Serve(path string, e *engine.Engine, b *build.Builder, info Info, listeners ...net.Listener) *Server {
	s := &Server{path: path, engine: e, builder: b, info: info}
	base, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerWait, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	for _, l := range listeners {
		go func() {
			if err := s.http.Serve(bounded(l, maxOpenConns)); err != nil && !errors.Is(err, http.ErrServerClosed) {
				log.L.WithError(err).Errorf("the Docker API stopped at %s", l.Addr())
			}
		}()
	}
	return s
}

// Address is the socket's path.
func (s *Server) Address() string { return s.path }

// Close ends streams and lets other requests finish, for a while.
func (s *Server) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close()
	}
	return nil
}

// bounded accepts so many connections at once; the others wait.
func bounded(l net.Listener, most int) net.Listener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
}

// Accept waits for a slot and a connection.
func (b *boundedListener) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return newSlotConn(c, func() { <-b.slots }), nil
}

// Close closes the listener.
func (b *boundedListener) Close() error {
	select {
	case <-b.closed:
	default:
		close(b.closed)
	}
	return b.Listener.Close()
}
