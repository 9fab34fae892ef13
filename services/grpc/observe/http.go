package observe

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/containerd/log"
)

// Server is a small HTTP server for people and programs that look at the daemon.
type Server struct {
	address string
	http    *http.Server
}

// Bounds of requests, which have no bodies.
const (
	headerWait = 5 * time.Second
	maxHeader  = 16 << 10
	closeWait  = time.Second
)

// Serve answers on l until Close.
func Serve(l net.Listener, h http.Handler) *Server {
	s := &Server{address: l.Addr().String(), http: &http.Server{Handler: h, ReadHeaderTimeout: headerWait, MaxHeaderBytes: maxHeader, IdleTimeout: time.Minute}}
	go func() {
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.L.WithError(err).Errorf("the HTTP server at %s stopped", s.address)
		}
	}()
	return s
}

// Address is where it listens.
func (s *Server) Address() string { return s.address }

// Close ends it; answers under way have a second.
func (s *Server) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return s.http.Close() // a profile or trace under way
	}
	return nil
}

// MetricsPath is where figures are, as with containerd.
const MetricsPath = "/v1/metrics"

// Figures serves only the figures.
func Figures(m *Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+MetricsPath, m.Handler())
	return mux
}

// Debug serves profiles below /debug/pprof/ and, unless m is nil, the figures.
func Debug(m *Metrics) http.Handler {
	mux := http.NewServeMux()
	if m != nil {
		mux.Handle("GET "+MetricsPath, m.Handler())
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
