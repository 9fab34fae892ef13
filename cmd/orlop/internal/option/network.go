package option

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// ports reads what is published and exposed.
func (n *networking) ports() (network.PortSet, network.PortMap, error) {
	exposed, published := network.PortSet{}, network.PortMap{}
	for _, text := range n.publish.GetSlice() {
		found, err := published1(text)
		if err != nil {
			return nil, nil, err
		}
		for _, m := range found {
			port, err := network.ParsePort(string(m.Port))
			if err != nil {
				return nil, nil, fmt.Errorf("port %q: %w", text, err)
			}
			binding := network.PortBinding{HostPort: m.Binding.HostPort}
			if m.Binding.HostIP != "" {
				if binding.HostIP, err = netip.ParseAddr(m.Binding.HostIP); err != nil {
					return nil, nil, fmt.Errorf("port %q: %w", text, err)
				}
			}
			exposed[port] = struct{}{}
			published[port] = append(published[port], binding)
		}
	}
	for _, text := range n.expose.GetSlice() {
		if strings.Contains(text, ":") {
			return nil, nil, fmt.Errorf("invalid port format for --expose: %s", text)
		}
		span, err := network.ParsePortRange(text)
		if err != nil {
			return nil, nil, fmt.Errorf("invalid range format for --expose: %w", err)
		}
		for port := range span.All() {
			exposed[port] = struct{}{}
		}
	}
	return exposed, published, nil
}

// published1 reads one --publish, in the short form or as target=80,published=8080,….
func published1(text string) ([]nat.PortMapping, error) {
	if !strings.Contains(text, "=") {
		return nat.ParsePortSpec(text)
	}
	target, host, protocol := "", "", "tcp"
	for _, part := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("invalid port %q: %q is no key=value", text, part)
		}
		switch key {
		case "target":
			target = value
		case "published":
			host = value
		case "protocol":
			protocol = value
		case "mode":
		default:
			return nil, fmt.Errorf("invalid port %q: unknown key %q", text, key)
		}
	}
	if target == "" {
		return nil, fmt.Errorf("invalid port %q: target is missing", text)
	}
	return nat.ParsePortSpec(host + ":" + target + "/" + protocol)
}

// endpoints are the networks to connect to; the flags that name none concern the first.
func (n *networking) endpoints(host *container.HostConfig) (*network.NetworkingConfig, error) {
	nets := n.mode.Value()
	if len(nets) == 0 {
		nets = []opts.NetworkAttachmentOpts{{Target: "default"}}
	}
	out := map[string]*network.EndpointSettings{}
	for i, o := range nets {
		if i == 0 {
			if err := n.first(&o); err != nil {
				return nil, err
			}
		}
		mode := container.NetworkMode(o.Target)
		if len(nets) > 1 && (mode.IsContainer() || mode.IsHost() || mode.IsNone()) {
			return nil, fmt.Errorf("network %q can't be one of several", o.Target)
		}
		if out[o.Target] != nil {
			return nil, fmt.Errorf("network %q is specified multiple times", o.Target)
		}
		e, err := endpoint(o)
		if err != nil {
			return nil, err
		}
		if len(e.Aliases)+len(e.Links)+len(e.DriverOpts) == 0 && e.IPAMConfig == nil && e.MacAddress == nil && e.GwPriority == 0 && len(nets) == 1 {
			continue
		}
		out[o.Target] = e
	}
	if len(nets) > 0 && host.NetworkMode == "" {
		host.NetworkMode = container.NetworkMode(nets[0].Target)
	}
	return &network.NetworkingConfig{EndpointsConfig: out}, nil
}

func (n *networking) first(o *opts.NetworkAttachmentOpts) error {
	user := container.NetworkMode(o.Target).IsUserDefined()
	if n.aliases.Len() > 0 {
		if len(o.Aliases) > 0 {
			return errors.New("conflicting options: cannot specify both --network-alias and per-network alias")
		}
		o.Aliases = n.aliases.GetSlice()
	}
	if n.links.Len() > 0 && user {
		o.Links = n.links.GetSlice()
	}
	var err error
	if n.ip4 != nil {
		o.IPv4Address, err = address(n.ip4)
	}
	if n.ip6 != nil && err == nil {
		o.IPv6Address, err = address(n.ip6)
	}
	if n.mac != "" {
		o.MacAddress = n.mac
	}
	if err == nil && n.linkLocal.Len() > 0 {
		o.LinkLocalIPs, err = addresses(n.linkLocal.GetSlice())
	}
	return err
}

func endpoint(o opts.NetworkAttachmentOpts) (*network.EndpointSettings, error) {
	e := &network.EndpointSettings{Aliases: o.Aliases, Links: o.Links, DriverOpts: o.DriverOpts, GwPriority: o.GwPriority}
	if o.IPv4Address.IsValid() || o.IPv6Address.IsValid() || len(o.LinkLocalIPs) > 0 {
		e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: o.IPv4Address, IPv6Address: o.IPv6Address, LinkLocalIPs: o.LinkLocalIPs}
	}
	if o.MacAddress != "" {
		mac, err := net.ParseMAC(strings.TrimSpace(o.MacAddress))
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", strconv.Quote(o.MacAddress))
		}
		e.MacAddress = network.HardwareAddr(mac)
	}
	return e, nil
}

func address(ip net.IP) (netip.Addr, error) { return netip.ParseAddr(ip.String()) }

func addresses(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, t := range texts {
		a, err := netip.ParseAddr(t)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
