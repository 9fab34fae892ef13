package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/containerd/log"
)

// Bounds of connections.
const (
	maxHeader  = 64 << 10
	headerWait = 30 * time.Second
	idleWait   = 2 * time.Minute
	closeWait  = 10 * time.Second
)

// Socket is where a registry is served.
type Socket struct {
	// Listen is host:port.
	Listen string
	// Cert and Key are the files of the server's certificate; empty is plain HTTP.
	Cert, Key string
	// ClientCA is a file of authorities whose client certificates are taken; empty is
	// none. Clients need not show one.
	ClientCA string
	// Insecure allows plain HTTP beyond this machine.
	Insecure bool
	// Bounds are what clients may take.
	Bounds Bounds
}

// Validate checks that plain HTTP stays on this machine, unless that was asked for.
func (s Socket) Validate() error {
	if err := s.Bounds.Validate(); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("listen: %q is no host:port", s.Listen)
	}
	if (s.Cert == "") != (s.Key == "") {
		return errors.New("cert: a certificate needs its key, and a key its certificate")
	}
	if s.ClientCA != "" && s.Cert == "" {
		return errors.New("client_ca: client certificates need TLS: name cert and key")
	}
	if s.Cert == "" && !s.Insecure && !loopback(host) {
		return fmt.Errorf("listen: %q is reachable from other machines: name cert and key, or set insecure = true", s.Listen)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Server serves a registry until it is closed.
type Server struct {
	address string
	http    *http.Server
	parts   []interface{ Close() error }
}

// Serve listens and serves; with the server, parts are closed.
func Serve(s Socket, h http.Handler, parts ...interface{ Close() error }) (*Server, error) {
	l, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return nil, err
	}
	l = s.Bounds.listen(l)
	srv := &Server{address: l.Addr().String(), parts: parts, http: &http.Server{Handler: paced(s.Bounds.Stall, h), ReadHeaderTimeout: s.Bounds.header(), IdleTimeout: idleWait, MaxHeaderBytes: maxHeader}}
	if s.Cert != "" {
		if srv.http.TLSConfig, err = s.tls(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	go func() {
		err := srv.run(l)
		if !errors.Is(err, http.ErrServerClosed) {
			log.L.WithError(err).Error("the registry stopped")
		}
	}()
	return srv, nil
}

// tls reads the certificates.
func (s Socket) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if s.ClientCA == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(s.ClientCA)
	if err != nil {
		return nil, err
	}
	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.VerifyClientCertIfGiven
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client_ca: %s holds no PEM certificate", s.ClientCA)
	}
	return cfg, nil
}

func (s *Server) run(l net.Listener) error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(l, "", "")
	}
	return s.http.Serve(l)
}

// Address is host:port.
func (s *Server) Address() string { return s.address }

// Close lets requests finish, for a while.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	var errs []error
	if err := s.http.Shutdown(ctx); err != nil {
		errs = append(errs, s.http.Close())
	}
	for _, p := range s.parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
