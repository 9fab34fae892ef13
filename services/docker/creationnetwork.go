package docker

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// endpointSysctls is the option of an endpoint with settings of its interface.
const endpointSysctls = "com.docker.network.endpoint.sysctls"

// connects tells whether the container gets an interface of its own.
func (n *creation) connects() bool {
	m := n.host.NetworkMode
	return !m.IsHost() && !m.IsNone() && !m.IsContainer()
}

// primary is what is said of the network that the network mode names. Newer clients,
// who may say something of several, must call it the same in both places.
func (n *creation) primary() (*network.EndpointSettings, error) {
	mode := n.host.NetworkMode
	name := mode.NetworkName()
	if mode == "" || mode.IsDefault() {
		name = network.NetworkDefault
	}
	switch {
	case len(n.nets) == 0:
		n.nets[name] = &network.EndpointSettings{}
	case n.version < 44:
		return n.nets[slices.Collect(maps.Keys(n.nets))[0]], nil
	case n.nets[name] == nil && name == network.NetworkDefault && n.nets[network.NetworkBridge] != nil:
		name = network.NetworkBridge
	case n.nets[name] == nil:
		return nil, badRequest("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	return n.nets[name], nil
}

// ownAddress is from when a hardware address could be the container's.
func (n *creation) ownAddress() error {
	if len(n.mac) == 0 {
		return nil
	}
	if n.version >= 44 {
		n.warn("The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.")
	}
	if !n.connects() {
		if n.version < 44 {
			return badRequest("conflicting options: mac-address and the network mode")
		}
		return nil
	}
	s, err := n.primary()
	if err != nil {
		return err
	}
	if len(s.MacAddress) > 0 && !bytes.Equal(s.MacAddress, n.mac) {
		return badRequest("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	s.MacAddress = n.mac
	return nil
}

// interfaceSysctls are the container's settings that are of an interface, by their
// names within one: net.ipv4.conf.eth0.x is eth0 and net.ipv4.conf.IFNAME.x.
func (n *creation) interfaceSysctls() (keys []string) {
	if !n.connects() {
		return nil
	}
	for key := range n.host.Sysctls {
		if p := strings.SplitN(key, ".", 5); len(p) == 5 && p[0] == "net" && strings.HasPrefix(p[3], "eth") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// refuseSysctls wants settings of interfaces to be said of a network: which interface
// is eth0 isn't known before.
func (n *creation) refuseSysctls() error {
	for _, key := range n.interfaceSysctls() {
		return badRequest("interface specific sysctl setting %q must be supplied using driver option '%s'", key, endpointSysctls)
	}
	return nil
}

// ownSysctls is from when settings of the first interface could be the container's.
func (n *creation) ownSysctls() error {
	keys := n.interfaceSysctls()
	if len(keys) == 0 {
		return nil
	}
	s, err := n.primary()
	if err != nil {
		return err
	}
	var moved []string
	for _, key := range keys {
		p := strings.SplitN(key, ".", 5)
		if p[3] != "eth0" {
			return badRequest("unable to determine network endpoint for sysctl %s, use driver option '%s' to set per-interface sysctls", key, endpointSysctls)
		}
		moved = append(moved, strings.Join([]string{p[0], p[1], p[2], "IFNAME", p[4]}, ".")+"="+n.host.Sysctls[key])
		delete(n.host.Sysctls, key)
	}
	text := strings.Join(moved, ",")
	n.warn(`Migrated sysctl "` + strings.Join(keys, ",") + `" to DriverOpts{"` + endpointSysctls + `":"` + text + `"}.`)
	if own := s.DriverOpts[endpointSysctls]; own != "" {
		text += "," + own // which counts, being later
	}
	s.DriverOpts = maps.Clone(s.DriverOpts)
	if s.DriverOpts == nil {
		s.DriverOpts = map[string]string{}
	}
	s.DriverOpts[endpointSysctls] = text
	return nil
}
