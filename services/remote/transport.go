package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// dialTimeout is how long a connection may take, where hosts.toml sets
	// nothing else.
	dialTimeout = 30 * time.Second
	// maxRedirects is what browsers and Go allow.
	maxRedirects = 10
)

// shared is the client of hosts without settings of their own.
var shared = newClient(nil, dialTimeout)

func newClient(cfg *tls.Config, dial time.Duration) *http.Client {
	return &http.Client{CheckRedirect: checkRedirect, Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dial, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute, // a registry may hash a large upload first
		MaxResponseHeaderBytes: 1 << 20,
		TLSClientConfig:        cfg,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // blobs are what they are
		ReadBufferSize:         64 << 10,
		WriteBufferSize:        64 << 10,
	}}
}

// checkRedirect follows a registry to where its blobs lie, without taking along
// what is for the registry only: nothing but what describes the request goes to
// another host, and nothing goes from TLS to plain http.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("more than 10 redirects")
	}
	first := via[0].URL
	if req.URL.Scheme != "https" && first.Scheme == "https" {
		return fmt.Errorf("%s redirects to plain http at %s: %w", first.Host, req.URL.Host, errdefs.ErrPermissionDenied)
	}
	if req.URL.Host == first.Host && req.URL.Scheme == first.Scheme {
		return nil
	}
	for name := range req.Header {
		switch name {
		case "Accept", "Range", "User-Agent", "Content-Type", "Content-Range":
		default:
			req.Header.Del(name)
		}
	}
	return nil
}

// clients makes an endpoint's client, and one for other hosts that it names: that
// one trusts the same authorities, but it shows no certificate and verifies.
func clients(h hostEntry, dir string) (own, foreign *http.Client, err error) {
	if h.CA == nil && h.Client == nil && !h.SkipVerify && h.DialTimeout == "" {
		return shared, shared, nil
	}
	dial := dialTimeout
	if h.DialTimeout != "" {
		if dial, err = time.ParseDuration(h.DialTimeout); err != nil {
			return nil, nil, fmt.Errorf("dial_timeout: %w", err)
		}
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.RootCAs, err = authorities(h, dir); err != nil {
		return nil, nil, err
	}
	foreign = newClient(cfg.Clone(), dial)
	cfg.InsecureSkipVerify = h.SkipVerify //nolint:gosec // asked for in hosts.toml
	cfg.Certificates, err = certificates(h.Client, dir)
	return newClient(cfg, dial), foreign, err
}

func authorities(h hostEntry, dir string) (*x509.CertPool, error) {
	paths := stringList(h.CA)
	if len(paths) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without any
	}
	for _, path := range paths {
		pem, err := os.ReadFile(absolute(dir, path))
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate: %w", path, errdefs.ErrInvalidArgument)
		}
	}
	return pool, nil
}

// certificates reads containerd's forms: "both.pem", ["both.pem", …] and
// [["cert", "key"], …]; beyond it, ["cert", "key"] is what it looks like.
func certificates(v any, dir string) ([]tls.Certificate, error) {
	var out []tls.Certificate
	for _, pair := range certificatePairs(v, dir) {
		cert, err := tls.LoadX509KeyPair(absolute(dir, pair[0]), absolute(dir, pair[1]))
		if err != nil {
			return nil, fmt.Errorf("client %s, %s: %w: %w", pair[0], pair[1], err, errdefs.ErrInvalidArgument)
		}
		out = append(out, cert)
	}
	return out, nil
}

func certificatePairs(v any, dir string) [][2]string {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var out [][2]string
	for _, item := range list {
		switch files := stringList(item); {
		case len(files) == 1, len(files) > 1 && files[1] == "":
			out = append(out, [2]string{files[0], files[0]})
		case len(files) > 1:
			out = append(out, [2]string{files[0], files[1]})
		}
	}
	if flat := stringList(v); len(list) == 2 && len(out) == 2 && len(flat) == 2 {
		if _, err := tls.LoadX509KeyPair(absolute(dir, flat[0]), absolute(dir, flat[1])); err == nil {
			return [][2]string{{flat[0], flat[1]}}
		}
	}
	return out
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
