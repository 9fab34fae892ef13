package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	networks "github.com/orlop/orlop/services/network"
)

type hostConfig = api.HostConfig

// Files of a container that say who it and others are.
const (
	hostsFile    = "hosts"
	hostnameFile = "hostname"
	resolvFile   = "resolv.conf"
)

// maxHostFile bounds a file of the host that is copied, in bytes.
const maxHostFile = 1 << 20

// files makes /etc/hosts, /etc/hostname and /etc/resolv.conf, and returns their mounts. One that
// the caller mounts itself is left out, as it replaces a mount of the same target.
func (e *Engine) files(c *Container, config *api.Config, h *hostConfig) ([]specs.Mount, error) {
	owner := c.ID
	if h.NetworkMode.IsContainer() {
		other, err := e.lookup(h.NetworkMode.ConnectedContainer())
		if err != nil {
			return nil, err
		}
		owner = other.ID // they share names as they share addresses
	}
	dir := e.folder(owner)
	if owner == c.ID {
		if err := e.writeFiles(dir, config, h, e.box(c.ID)); err != nil {
			return nil, err
		}
	}
	var out []specs.Mount
	for _, name := range []string{hostsFile, hostnameFile, resolvFile} {
		out = append(out, specs.Mount{Type: "bind", Source: filepath.Join(dir, name), Destination: "/etc/" + name, Options: []string{"rbind", "rprivate"}})
	}
	return out, nil
}

func (e *Engine) writeFiles(dir string, config *api.Config, h *hostConfig, box networks.Sandbox) error {
	hosts, err := e.hostsText(config, h, box)
	if err != nil {
		return err
	}
	linked, err := e.linkHosts(h)
	if err != nil {
		return err
	}
	hosts = append(hosts, linked...)
	resolv, err := resolvText(e.naming(h), box)
	if err != nil {
		return err
	}
	name := config.Hostname
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return err
		}
	}
	for file, data := range map[string][]byte{hostsFile: hosts, hostnameFile: []byte(name + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil {
			return err
		}
	}
	return writeResolv(dir, resolv)
}

func (e *Engine) hostsText(config *api.Config, h *hostConfig, box networks.Sandbox) ([]byte, error) {
	var b bytes.Buffer
	if h.NetworkMode.IsHost() {
		data, err := hostFile("/etc/hosts")
		if err != nil {
			return nil, err
		}
		b.Write(data)
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n")
		if !noIPv6(h) {
			b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
		}
	}
	for _, extra := range h.ExtraHosts {
		name, address, ok := strings.Cut(extra, ":")
		if !ok {
			name, address, ok = strings.Cut(extra, "=")
		}
		if !ok || name == "" || address == "" || strings.ContainsAny(extra, " \t\n") {
			return nil, invalid("bad format for add-host: %q", extra)
		}
		if address == "host-gateway" {
			for _, a := range e.hostGateways(h, box) {
				fmt.Fprintf(&b, "%s\t%s\n", a, name)
			}
			continue
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(address, "[]"), name)
	}
	return append(b.Bytes(), ownHosts(config, box)...), nil
}

// resolvText is the host's resolv.conf, or what the caller or the daemon's config says.
func resolvText(n networks.Naming, box networks.Sandbox) ([]byte, error) {
	host, err := hostFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	if len(box.Endpoints) > 0 {
		return ownResolv(n, box, host), nil
	}
	var b bytes.Buffer
	for line := range strings.Lines(string(host)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		replaced := word == "nameserver" && len(n.Servers) > 0 || word == "search" && len(n.Search) > 0 || word == "options" && len(n.Options) > 0
		if !replaced {
			b.WriteString(line)
		}
	}
	for _, a := range n.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(n.Search) > 0 && n.Search[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(n.Search, " "))
	}
	if len(n.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(n.Options, " "))
	}
	return b.Bytes(), nil
}

// hostFile reads a file of the host; one that isn't there is empty.
func hostFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	switch {
	case os.IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, err
	case len(data) > maxHostFile:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are copied", path, len(data), maxHostFile)
	}
	return data, nil
}
