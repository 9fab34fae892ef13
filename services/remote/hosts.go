package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// endpoint is one place that serves a registry: a mirror or the registry itself.
type endpoint struct {
	base   url.URL // scheme, host and path prefix, "/v2" included
	can    []string
	header http.Header
	client *http.Client
	mirror bool
}

func (e endpoint) does(what string) bool { return slices.Contains(e.can, what) }

var allCapabilities = []string{"pull", "resolve", "push"}

// hostsFile is hosts.toml in containerd's form.
type hostsFile struct {
	Server string `toml:"server"`
	hostEntry
	Host map[string]hostEntry `toml:"host"`
}

type hostEntry struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// endpoints lists where a registry's content can be had, mirrors first.
func (c *Client) endpoints(host string) ([]endpoint, error) {
	file, dir, err := c.hostsFile(host)
	if err != nil {
		return nil, err
	}
	var out []endpoint
	for _, key := range hostOrder(file, dir) {
		e, err := c.endpoint(key, file.Host[key], dir)
		if err != nil {
			return nil, fmt.Errorf("%s: host %q: %w", filepath.Join(dir, "hosts.toml"), key, err)
		}
		e.mirror = true
		out = append(out, e)
	}
	server := file.Server
	if server == "" {
		server = c.defaultServer(host)
	}
	e, err := c.endpoint(server, file.hostEntry, dir)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", host, err)
	}
	return append(out, e), nil
}

func (c *Client) defaultServer(host string) string {
	scheme := "https://"
	if isLoopback(host) || slices.Contains(c.cfg.PlainHTTP, host) {
		scheme = "http://"
	}
	return scheme + apiHost(host)
}

// hostsFile finds <dir>/<host>/hosts.toml, or that of _default.
func (c *Client) hostsFile(host string) (hostsFile, string, error) {
	var f hostsFile
	for _, root := range c.cfg.HostDirs {
		for _, name := range []string{host, strings.ReplaceAll(host, ":", "_") + "_", "_default"} {
			dir := filepath.Join(root, name)
			data, err := os.ReadFile(filepath.Join(dir, "hosts.toml"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return f, dir, err
			}
			if err := toml.Unmarshal(data, &f); err != nil {
				return f, dir, fmt.Errorf("%s: %w", filepath.Join(dir, "hosts.toml"), err)
			}
			return f, dir, nil
		}
	}
	return f, "", nil
}

// hostOrder returns the keys of [host."…"] as they stand in the file, which a
// map has lost: the first mirror is asked first.
func hostOrder(f hostsFile, dir string) []string {
	keys := make([]string, 0, len(f.Host))
	for k := range f.Host {
		keys = append(keys, k)
	}
	data, err := os.ReadFile(filepath.Join(dir, "hosts.toml"))
	if err != nil {
		slices.Sort(keys)
		return keys
	}
	text := string(data)
	slices.SortFunc(keys, func(a, b string) int { return strings.Index(text, `"`+a+`"`) - strings.Index(text, `"`+b+`"`) })
	return keys
}

func (c *Client) endpoint(server string, h hostEntry, dir string) (endpoint, error) {
	if !strings.Contains(server, "://") {
		server = c.defaultServer(server)
	}
	u, err := url.Parse(server)
	if err != nil {
		return endpoint{}, err
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return endpoint{}, fmt.Errorf("%q is not an http or https address", server)
	}
	if !h.OverridePath && !strings.HasSuffix(u.Path, "/v2") {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/v2"
	}
	client, err := httpClient(h, dir)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{base: *u, can: h.Capabilities, header: headers(h.Header), client: client}
	if len(e.can) == 0 {
		e.can = allCapabilities
	}
	return e, nil
}

func headers(in map[string]any) http.Header {
	out := http.Header{}
	for k, v := range in {
		for _, s := range stringList(v) {
			out.Add(k, s)
		}
	}
	return out
}

// stringList reads TOML's "a", ["a", "b"] alike.
func stringList(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			out = append(out, stringList(item)...)
		}
		return out
	}
	return nil
}

// shared is the transport of hosts without settings of their own.
var shared = &http.Client{Transport: transport(nil, 30*time.Second)}

func transport(cfg *tls.Config, dial time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dial, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		TLSClientConfig:       cfg,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // blobs are what they are
		ReadBufferSize:        64 << 10,
	}
}

func httpClient(h hostEntry, dir string) (*http.Client, error) {
	if h.CA == nil && h.Client == nil && !h.SkipVerify && h.DialTimeout == "" {
		return shared, nil
	}
	cfg := &tls.Config{InsecureSkipVerify: h.SkipVerify, MinVersion: tls.VersionTLS12} //nolint:gosec // asked for in hosts.toml
	for _, path := range stringList(h.CA) {
		pem, err := os.ReadFile(absolute(dir, path))
		if err != nil {
			return nil, err
		}
		if cfg.RootCAs == nil {
			if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
				return nil, err
			}
		}
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", path)
		}
	}
	if pair := stringList(h.Client); len(pair) > 0 {
		cert, err := tls.LoadX509KeyPair(absolute(dir, pair[0]), absolute(dir, pair[len(pair)-1]))
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	dial := 30 * time.Second
	if h.DialTimeout != "" {
		d, err := time.ParseDuration(h.DialTimeout)
		if err != nil {
			return nil, fmt.Errorf("dial_timeout: %w", err)
		}
		dial = d
	}
	return &http.Client{Transport: transport(cfg, dial)}, nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
