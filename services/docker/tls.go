package docker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/internal/trust"
)

// TLS is a TCP socket, where clients must show certificates.
type TLS struct {
	// Listen is host:port; empty is no socket.
	Listen string
	// CA holds the certificates of those who sign clients', Cert and Key are the
	// daemon's own; all are paths of files in PEM.
	CA, Cert, Key string
}

// maxPEM bounds a file of certificates, in bytes.
const maxPEM = 1 << 20

// secret are the permissions that a key must not have.
const secret = 0o077

// Validate checks that nothing is missing: a TCP socket without client
// certificates would give the whole machine to whoever reaches it.
func (t TLS) Validate() error {
	if t.Listen == "" {
		if t.CA+t.Cert+t.Key != "" {
			return errors.New("listen: certificates are named, but no address")
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(t.Listen); err != nil {
		return fmt.Errorf("listen: %q is no host:port", t.Listen)
	}
	for key, path := range map[string]string{"ca": t.CA, "cert": t.Cert, "key": t.Key} {
		if path == "" {
			return fmt.Errorf("%s: a TCP socket needs ca, cert and key: without them, whoever reaches it would own this machine", key)
		}
	}
	return nil
}

// Open listens. It returns PermissionDenied for files that others could have made,
// and for a key that others can read.
func (t TLS) Open() (net.Listener, error) {
	ca, err := read(t.CA, 0)
	if err != nil {
		return nil, err
	}
	signers := x509.NewCertPool()
	if !signers.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: there is no certificate in it: %w", t.CA, errdefs.ErrInvalidArgument)
	}
	cert, err := read(t.Cert, 0)
	if err != nil {
		return nil, err
	}
	key, err := read(t.Key, secret)
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w: %w", t.Cert, t.Key, err, errdefs.ErrInvalidArgument)
	}
	l, err := net.Listen("tcp", t.Listen)
	if err != nil {
		return nil, err
	}
	// HTTP/2 is left out: streams are connections that are taken over.
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{own}, ClientCAs: signers, ClientAuth: tls.RequireAndVerifyClientCert}), nil
}

func read(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := trust.File(path, info); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("%s: others can read this key (mode %#o); run: chmod 600 %s: %w", path, mode, path, errdefs.ErrPermissionDenied)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(data) > maxPEM {
		err = fmt.Errorf("%s: it has more than %d bytes: %w", path, maxPEM, errdefs.ErrOutOfRange)
	}
	return data, err
}
