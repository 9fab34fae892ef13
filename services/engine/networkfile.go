package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/network/dns"
	networks "github.com/orlop/orlop/services/network"
)

// box is a container's sandbox; one without has no endpoints.
func (e *Engine) box(id string) networks.Sandbox {
	if e.Networks == nil {
		return networks.Sandbox{}
	}
	b, _ := e.Networks.Sandbox(id)
	return b
}

// ownHosts are the lines of /etc/hosts that name the container itself.
func ownHosts(config *api.Config, box networks.Sandbox) []byte {
	var b bytes.Buffer
	for i := range box.Endpoints {
		for _, a := range box.Endpoints[i].Addresses {
			b.WriteString(hostLine(a.Addr(), config))
		}
	}
	return b.Bytes()
}

// hostLine names the container by its full name, and the part of it before the first
// dot: the domain may be said by itself or at the end of the hostname.
func hostLine(a netip.Addr, config *api.Config) string {
	names := config.Hostname
	if names == "" {
		return ""
	}
	if config.Domainname != "" {
		names += "." + config.Domainname
	}
	if host, _, ok := strings.Cut(names, "."); ok {
		names += " " + host
	}
	return fmt.Sprintf("%s\t%s\n", a, names)
}

// hostGateways are the addresses that host-gateway stands for.
func (e *Engine) hostGateways(h *hostConfig, box networks.Sandbox) []netip.Addr {
	var out []netip.Addr
	if e.Networks != nil {
		out = e.Networks.HostGateway(box)
	}
	if len(out) == 0 && h.NetworkMode.IsHost() {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return out
}

// ownResolv is resolv.conf in a sandbox: the resolver's address where names are
// resolved, else the host's servers that can be reached from it.
func ownResolv(n networks.Naming, box networks.Sandbox, host []byte) []byte {
	var b bytes.Buffer
	options, search := "", ""
	for line := range strings.Lines(string(host)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "options":
			options = strings.TrimSpace(rest)
		case "search":
			search = strings.TrimSpace(rest)
		}
	}
	if len(n.Search) > 0 {
		search = strings.Join(n.Search, " ")
	}
	if len(n.Options) > 0 {
		options = strings.Join(n.Options, " ")
	}
	switch {
	case box.Resolves():
		b.WriteString("# Names are resolved by Orlop, which asks others on behalf of this container.\n")
		fmt.Fprintf(&b, "nameserver %s\n", dns.Address)
		if !strings.Contains(options, "ndots:") {
			options = strings.TrimSpace(options + " ndots:0")
		}
	case len(n.Servers) > 0:
		for _, a := range n.Servers {
			fmt.Fprintf(&b, "nameserver %s\n", a)
		}
	default:
		for _, a := range box.Direct() {
			fmt.Fprintf(&b, "nameserver %s\n", a)
		}
	}
	if search != "" && search != "." {
		fmt.Fprintf(&b, "search %s\n", search)
	}
	if options != "" {
		fmt.Fprintf(&b, "options %s\n", options)
	}
	return b.Bytes()
}

// replaceLines puts lines in a container's /etc/hosts in the place of others.
func (e *Engine) replaceLines(id string, before, after []byte) error {
	e.hosts.Lock()
	defer e.hosts.Unlock()
	path := filepath.Join(e.folder(id), hostsFile)
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(before) {
		have = bytes.Replace(have, line, nil, 1)
	}
	return os.WriteFile(path, append(have, after...), 0o644)
}

// rehost changes the lines of a container's /etc/hosts that name itself, when it was
// connected or disconnected.
func (e *Engine) rehost(c *Container, before, after networks.Sandbox) error {
	config, h := c.config()
	if err := e.replaceLines(c.ID, ownHosts(config, before), ownHosts(config, after)); err != nil {
		return err
	}
	host, err := hostFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return writeResolv(e.folder(c.ID), ownResolv(e.naming(h), after, host))
}
