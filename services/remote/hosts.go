package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxHostsFile bounds a hosts.toml, in bytes.
const maxHostsFile = 1 << 20

// endpoint is one place that serves a registry: a mirror or the registry itself.
type endpoint struct {
	base    url.URL // scheme, host and path prefix, "/v2" included
	can     []string
	header  http.Header
	client  *http.Client // for the endpoint itself
	foreign *http.Client // for where it sends us: without its certificate and leniency
	mirror  bool
}

func (e endpoint) does(what string) bool { return slices.Contains(e.can, what) }

var allCapabilities = []string{"pull", "resolve", "push"}

// hostsFile is hosts.toml in containerd's form.
type hostsFile struct {
	Server string `toml:"server"`
	hostEntry
	Host map[string]hostEntry `toml:"host"`

	order []string // of Host's keys: the first mirror is asked first
	dir   string   // where the file lies, "" for none
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

// endpoints lists where a registry's content can be had, mirrors first. It is
// read once for a client.
func (c *Client) endpoints(host string) ([]endpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.hosts[host]; ok {
		return have, nil
	}
	file, err := c.hostsFile(host)
	if err != nil {
		return nil, err
	}
	var out []endpoint
	for _, key := range file.order {
		e, err := c.endpoint(key, file.Host[key], file.dir)
		if err != nil {
			return nil, fmt.Errorf("%s: host %q: %w", filepath.Join(file.dir, "hosts.toml"), key, err)
		}
		e.mirror = true
		out = append(out, e)
	}
	server := file.Server
	if server == "" {
		server = c.defaultServer(host)
	}
	e, err := c.endpoint(server, file.hostEntry, file.dir)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", host, err)
	}
	c.hosts[host] = append(out, e)
	return c.hosts[host], nil
}

func (c *Client) defaultServer(host string) string {
	scheme := "https://"
	if isLoopback(host) || slices.Contains(c.cfg.PlainHTTP, host) {
		scheme = "http://"
	}
	return scheme + apiHost(host)
}

// hostsFile finds <dir>/<host>/hosts.toml, or that of _default.
func (c *Client) hostsFile(host string) (hostsFile, error) {
	if host == "" || host == "." || strings.Contains(host, "..") || strings.ContainsAny(host, "/\\\x00") {
		return hostsFile{}, fmt.Errorf("registry %q: not a host: %w", host, errdefs.ErrInvalidArgument)
	}
	for _, root := range c.cfg.HostDirs {
		for _, name := range []string{host, strings.ReplaceAll(host, ":", "_") + "_", "_default"} {
			dir := filepath.Join(root, name)
			path := filepath.Join(dir, "hosts.toml")
			data, err := readBounded(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return hostsFile{}, err
			}
			f, err := parseHosts(data)
			if err != nil {
				return f, fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
			}
			f.dir = dir
			return f, nil
		}
	}
	return hostsFile{}, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHostsFile+1))
	if err == nil && len(data) > maxHostsFile {
		err = fmt.Errorf("%s is larger than %d bytes: %w", path, maxHostsFile, errdefs.ErrInvalidArgument)
	}
	return data, err
}

// parseHosts reads hosts.toml.
func parseHosts(data []byte) (hostsFile, error) {
	var f hostsFile
	if err := toml.Unmarshal(data, &f); err != nil {
		return hostsFile{}, err
	}
	f.order = hostOrder(data)
	for key := range f.Host {
		if !slices.Contains(f.order, key) {
			f.order = append(f.order, key) // an inline table
			slices.Sort(f.order)
		}
	}
	for _, e := range append(slices.Collect(values(f.Host)), f.hostEntry) {
		for _, can := range e.Capabilities {
			if !slices.Contains(allCapabilities, can) {
				return hostsFile{}, fmt.Errorf("unknown capability %.40q, there are %s", can, strings.Join(allCapabilities, ", "))
			}
		}
	}
	return f, nil
}

func values(m map[string]hostEntry) func(func(hostEntry) bool) {
	return func(yield func(hostEntry) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// hostOrder returns the keys of [host."…"] as they stand in the file, which a map
// has lost.
func hostOrder(data []byte) []string {
	var p unstable.Parser
	var keys []string
	p.Reset(bytes.Clone(data))
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table {
			continue
		}
		it := e.Key()
		if !it.Next() || string(it.Node().Data) != "host" || !it.Next() {
			continue
		}
		if key := string(it.Node().Data); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
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
		return endpoint{}, fmt.Errorf("%q is not an http or https address: %w", server, errdefs.ErrInvalidArgument)
	}
	u.Host = apiHost(u.Host)
	if !h.OverridePath && !strings.HasSuffix(u.Path, "/v2") {
		u.Path = strings.TrimSuffix(u.Path, "/") + "/v2"
	}
	e := endpoint{base: *u, can: h.Capabilities, header: headers(h.Header)}
	if e.client, e.foreign, err = clients(h, dir); err != nil {
		return endpoint{}, err
	}
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
