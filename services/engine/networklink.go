package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	apinet "github.com/moby/moby/api/types/network"

	port "github.com/orlop/orlop/network"
	networks "github.com/orlop/orlop/services/network"
)

// link is another container that a container on the default bridge knows by a name,
// from its /etc/hosts and environment.
type link struct {
	alias   string
	other   *Container
	address netip.Addr
}

// names are the names of a line in /etc/hosts.
func (l *link) names() string {
	config, _ := l.other.config()
	var out []string
	for _, n := range []string{l.alias, config.Hostname, l.other.name()} {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return strings.Join(out, " ")
}

// line is a link's in /etc/hosts.
func (l *link) line() string { return fmt.Sprintf("%s\t%s\n", l.address, l.names()) }

// SplitLink reads name[:alias].
func SplitLink(text string) (target, alias string) {
	target, alias, ok := strings.Cut(strings.TrimPrefix(text, "/"), ":")
	if !ok {
		alias = target
	}
	return target, alias[strings.LastIndex(alias, "/")+1:]
}

// checkLinks finds the containers that links name; elsewhere than on the default
// bridge they become links of the first network.
func (e *Engine) checkLinks(h *hostConfig, settings endpoints) error {
	if len(h.Links) > 0 && alone(h.NetworkMode) {
		return invalid("conflicting options: links and the network mode %s", h.NetworkMode)
	}
	for _, text := range h.Links {
		target, alias := SplitLink(text)
		if _, err := e.lookup(target); err != nil {
			return invalid("could not get container for %s: %v", target, err)
		}
		if alias == "" {
			return invalid("bad format for links: %s", text)
		}
	}
	if name := networkName(h.NetworkMode); name != networks.Bridge && len(h.Links) > 0 {
		for n, s := range settings {
			if n == name || s.NetworkID == name {
				s.Links = append(s.Links, h.Links...)
			}
		}
	}
	return nil
}

// links are those of a container on the default bridge that is about to start. A link
// ends with its target, until there is another of that name.
func (e *Engine) links(h *hostConfig) ([]link, error) {
	if networkName(h.NetworkMode) != networks.Bridge {
		return nil, nil
	}
	var out []link
	for _, text := range h.Links {
		target, alias := SplitLink(text)
		other, err := e.lookup(target)
		if err != nil {
			continue
		}
		l := link{alias: alias, other: other, address: e.bridgeAddress(other.ID)}
		if !l.address.IsValid() {
			return nil, denied("Cannot link to a non running container: /%s AS /%s", other.name(), alias)
		}
		out = append(out, l)
	}
	return out, nil
}

// bridgeAddress is a container's address on the default bridge.
func (e *Engine) bridgeAddress(id string) netip.Addr {
	box := e.box(id)
	for i := range box.Endpoints {
		if box.Endpoints[i].NetworkName == networks.Bridge {
			return box.Endpoints[i].Address(false)
		}
	}
	return netip.Addr{}
}

// linkHosts are the lines of links in /etc/hosts.
func (e *Engine) linkHosts(h *hostConfig) ([]byte, error) {
	all, err := e.links(h)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, l := range all {
		out = append(out, l.line()...)
	}
	return out, nil
}

// linkEnv is what links put into the environment.
func (e *Engine) linkEnv(c *Container, h *hostConfig) ([]string, error) {
	all, err := e.links(h)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range all {
		config, _ := l.other.config()
		prefix := strings.ToUpper(strings.ReplaceAll(l.alias, "-", "_"))
		out = append(out, prefix+"_NAME=/"+c.name()+"/"+l.alias)
		ports := sortedPorts(config.ExposedPorts)
		for i, p := range ports {
			out = append(out, portEnv(prefix, l.address, p, i == 0)...)
		}
		for _, v := range config.Env {
			if !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "PATH=") {
				out = append(out, prefix+"_ENV_"+v)
			}
		}
	}
	return out, nil
}

// portEnv is what one exposed port of a link puts into the environment.
func portEnv(prefix string, a netip.Addr, p apinet.Port, first bool) []string {
	number := strconv.Itoa(int(p.Num()))
	key := prefix + "_PORT_" + number + "_" + strings.ToUpper(string(p.Proto()))
	url := string(p.Proto()) + "://" + netip.AddrPortFrom(a, p.Num()).String()
	out := []string{key + "=" + url, key + "_ADDR=" + a.String(), key + "_PORT=" + number, key + "_PROTO=" + string(p.Proto())}
	if first {
		out = append(out, prefix+"_PORT="+url)
	}
	return out
}

// openLinks lets a container reach the ports that its links' targets expose, on a
// default bridge whose containers don't reach each other.
func (e *Engine) openLinks(ctx context.Context, c *Container) error {
	_, h := c.config()
	if len(h.Links) == 0 || networkName(h.NetworkMode) != networks.Bridge {
		return nil
	}
	var all []networks.Target
	for _, text := range h.Links {
		target, _ := SplitLink(text)
		other, err := e.lookup(target)
		if err != nil {
			continue // it was removed since
		}
		t := networks.Target{Sandbox: other.ID}
		config, _ := other.config()
		for _, p := range sortedPorts(config.ExposedPorts) {
			t.Services = append(t.Services, port.Service{Protocol: port.Protocol(p.Proto()), Port: p.Num()})
		}
		all = append(all, t)
	}
	return e.Networks.Link(ctx, c.ID, all)
}
