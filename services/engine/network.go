package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	api "github.com/moby/moby/api/types/container"
	apinet "github.com/moby/moby/api/types/network"

	networks "github.com/orlop/orlop/services/network"

	"github.com/orlop/orlop/core/worded"
)

// Networks connects containers to networks other than the host's, none and that
// of another container. It is a part of the engine that may be absent.
type Networks = *networks.Service

// endpoints are how a container is connected, or would like to be, by network.
type endpoints = map[string]*apinet.EndpointSettings

// alone tells whether a container is on none of the networks that connect
// containers.
func alone(mode api.NetworkMode) bool { return mode.IsNone() || mode.IsHost() || mode.IsContainer() }

// networkName is the network that a mode names.
func networkName(mode api.NetworkMode) string {
	if mode == "" || mode.IsDefault() {
		return networks.Bridge
	}
	return mode.NetworkName()
}

// networkWarnings tell what is passed over.
func networkWarnings(h *hostConfig) []string {
	if h.NetworkMode.IsHost() && (len(h.PortBindings) > 0 || h.PublishAllPorts) {
		return []string{"Published ports are discarded when using host network mode"}
	}
	return []string{}
}

// draftNetworks checks and completes what a caller says of networks.
func (e *Engine) draftNetworks(c *Container, given endpoints) (endpoints, error) {
	h := c.rec.HostConfig
	mode := h.NetworkMode
	if err := checkPorts(c.rec.Config, h); err != nil {
		return nil, err
	}
	out := endpoints{}
	for name, settings := range given {
		if name == "default" {
			name = networks.Bridge
		}
		if settings == nil {
			settings = &apinet.EndpointSettings{}
		}
		out[name] = configOf(settings)
	}
	if mode.IsContainer() {
		if len(out) > 0 {
			return nil, invalid("conflicting options: a container with the network of another can't be connected to networks")
		}
		return nil, nil
	}
	primary := networkName(mode)
	// Who names other networks, and not the default one, isn't on it.
	if out[primary] == nil && (primary != networks.Bridge || len(out) == 0) {
		out[primary] = &apinet.EndpointSettings{}
	}
	if alone(mode) && len(out) > 1 {
		return nil, invalid("conflicting options: a container with the network mode %s can't be connected to other networks", mode)
	}
	if err := e.checkLinks(h, out); err != nil {
		return nil, err
	}
	return e.resolveNetworks(out)
}

// resolveNetworks calls networks by their names, as far as they exist.
func (e *Engine) resolveNetworks(given endpoints) (endpoints, error) {
	out := endpoints{}
	for ref, settings := range given {
		name := ref
		if e.Networks != nil {
			if r, err := e.Networks.Find(ref); err == nil {
				name, settings.NetworkID = r.Name, r.ID
			}
		}
		if err := checkEndpoint(name, settings); err != nil {
			return nil, err
		}
		if out[name] != nil {
			settings = merged(out[name], settings)
		}
		out[name] = settings
	}
	return out, nil
}

// merged is what is said of one network by its name and by its ID.
func merged(a, b *apinet.EndpointSettings) *apinet.EndpointSettings {
	if a.IPAMConfig == nil && len(a.Aliases) == 0 && len(a.MacAddress) == 0 && len(a.DriverOpts) == 0 && len(a.Links) == 0 {
		return b
	}
	return a
}

// configOf leaves out what is not for a caller to say.
func configOf(s *apinet.EndpointSettings) *apinet.EndpointSettings {
	return &apinet.EndpointSettings{IPAMConfig: s.IPAMConfig.Copy(), Links: slices.Clone(s.Links), Aliases: slices.Clone(s.Aliases),
		DriverOpts: s.DriverOpts, GwPriority: s.GwPriority, MacAddress: s.MacAddress, NetworkID: s.NetworkID}
}

// checkEndpoint refuses what can't be, with Docker's words.
func checkEndpoint(name string, s *apinet.EndpointSettings) error {
	own := name != networks.Bridge && name != networks.Host && name != networks.None
	if c := s.IPAMConfig; c != nil {
		if (c.IPv4Address.IsValid() || c.IPv6Address.IsValid()) && !own {
			return invalid("invalid config for network %s: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only", name)
		}
		if c.IPv4Address.IsValid() && !c.IPv4Address.Is4() || c.IPv6Address.IsValid() && !c.IPv6Address.Is6() {
			return invalid("invalid config for network %s: invalid endpoint settings:\ninvalid address", name)
		}
		for _, a := range c.LinkLocalIPs {
			if !a.IsLinkLocalUnicast() {
				return invalid("invalid config for network %s: invalid endpoint settings:\ninvalid link-local IP address: %s", name, a)
			}
		}
	}
	if len(s.Aliases) > 0 && !own {
		return invalid("invalid config for network %s: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks", name)
	}
	if len(s.MacAddress) > 0 && (len(s.MacAddress) != 6 || s.MacAddress[0]&1 != 0) {
		return invalid("invalid MAC address: %s", s.MacAddress)
	}
	return nil
}

// wishes are how a container that starts would like to be connected.
func (e *Engine) wishes(c *Container) ([]networks.Wish, error) {
	c.mu.Lock()
	settings, config, name := c.rec.Networks, c.rec.Config, c.rec.Name
	c.mu.Unlock()
	if settings == nil { // a record of before there were networks
		_, h := c.config()
		settings = endpoints{networkName(h.NetworkMode): {}}
	}
	var out []networks.Wish
	for network, s := range settings {
		w, err := e.wish(c.ID, network, s)
		if err != nil {
			return nil, err
		}
		w.Names = dnsNames(c.ID, name, config.Hostname, s.Aliases)
		out = append(out, w)
	}
	return out, nil
}

// wish is one endpoint in the words of the service.
func (e *Engine) wish(id, network string, s *apinet.EndpointSettings) (networks.Wish, error) {
	w := networks.Wish{Network: network, MAC: s.MacAddress, Options: s.DriverOpts, Priority: s.GwPriority}
	if _, err := e.Networks.Find(s.NetworkID); err == nil && s.NetworkID != "" {
		w.Network = s.NetworkID
	}
	if len(w.MAC) == 0 {
		w.MAC = nil
	}
	if s.IPAMConfig != nil {
		w.LinkLocal = s.IPAMConfig.LinkLocalIPs
		w.IPv4, w.IPv6 = s.IPAMConfig.IPv4Address, s.IPAMConfig.IPv6Address
	}
	for _, text := range s.Links {
		target, alias := SplitLink(text)
		other, err := e.lookup(target)
		if err != nil {
			continue // until there is one of that name
		}
		if w.Links == nil {
			w.Links = map[string]string{}
		}
		w.Links[strings.ToLower(alias)] = short(other.ID)
	}
	return w, nil
}

// dnsNames are what others call a container, its own name first.
func dnsNames(id, name, hostname string, aliases []string) []string {
	var out []string
	for _, n := range slices.Concat([]string{name}, aliases, []string{short(id), hostname}) {
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// prepareNetwork makes the namespace of a container that is about to start.
func (e *Engine) prepareNetwork(ctx context.Context, c *Container, h *hostConfig) (path string, err error) {
	p := networks.Plan{ID: c.ID, Name: c.name(), Servers: e.naming(h).Servers, Users: e.usersOf(h),
		NoIPv6: noIPv6(h)}
	config, _ := c.config()
	if p.Wishes, err = e.wishes(c); err != nil {
		return "", networkError(err)
	}
	if p.Ports, err = portsOf(config, h); err != nil {
		return "", err
	}
	box, err := e.Networks.Prepare(ctx, p)
	if errdefs.IsAlreadyExists(err) { // what a start that failed has left
		if err = e.Networks.Leave(ctx, c.ID); err == nil {
			box, err = e.Networks.Prepare(ctx, p)
		}
	}
	return box.Path, networkError(err)
}

// networkFailed begins the errors of networks, as Docker's do.
const networkFailed = "failed to set up container networking"

func networkError(err error) error {
	if err == nil || strings.HasPrefix(err.Error(), networkFailed) {
		return err
	}
	return worded.New(err, "%s: %v", networkFailed, err)
}

// noIPv6 tells that a container turns IPv6 off for all of its interfaces.
func noIPv6(h *hostConfig) bool { return h.Sysctls["net.ipv6.conf.all.disable_ipv6"] == "1" }

// naming is how a container finds names, by its own word or the daemon's.
func (e *Engine) naming(h *hostConfig) networks.Naming {
	n := networks.Naming{Servers: h.DNS, Search: h.DNSSearch, Options: h.DNSOptions}
	if e.Networks == nil {
		return n
	}
	return n.Or(e.Networks.Naming())
}

// plug makes the connections of a container that is being created.
func (e *Engine) plug(ctx context.Context, c *Container) error {
	_, h := c.config()
	if e.Networks == nil || alone(h.NetworkMode) {
		return nil
	}
	if _, err := e.Networks.Connect(ctx, c.ID); err != nil {
		return networkError(err)
	}
	if err := e.openLinks(ctx, c); err != nil {
		return networkError(err)
	}
	e.relink(ctx, c)
	return nil
}

func (e *Engine) disconnectNetwork(ctx context.Context, c *Container) {
	if e.Networks == nil {
		return
	}
	if err := e.Networks.Leave(ctx, c.ID); err != nil {
		log.G(ctx).WithError(err).Warnf("network of container %s", c.ID)
	}
}

// keepNetworks leaves the networks of containers that don't run, at the start.
func (e *Engine) keepNetworks(ctx context.Context) {
	if e.Networks == nil {
		return
	}
	err := e.Networks.Keep(func(id string) bool {
		c, err := e.lookup(id)
		return err == nil && c.state().Running
	})
	if err != nil {
		log.G(ctx).WithError(err).Warn("networks of containers that are gone")
	}
}

// hearNetworks tells people what happens to networks.
func (e *Engine) hearNetworks() {
	if e.Networks == nil {
		return
	}
	e.Networks.Notify(func(ev networks.Event) {
		attributes := map[string]string{"name": ev.Network.Name, "type": ev.Network.Driver}
		if ev.Sandbox != "" {
			attributes["container"] = ev.Sandbox
		}
		e.events.add(Event{Type: "network", Action: ev.Action, ID: ev.Network.ID, Attributes: attributes, Time: now()})
	})
}
