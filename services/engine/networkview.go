package engine

import (
	apinet "github.com/moby/moby/api/types/network"

	networks "github.com/orlop/orlop/services/network"
)

// showNetworks puts a container's networks into its view: as they were asked for,
// and while it runs as they are.
func (e *Engine) showNetworks(v *View, settings endpoints) {
	v.Networks, v.Ports = endpoints{}, apinet.PortMap{}
	mode := v.HostConfig.NetworkMode
	if mode.IsContainer() {
		return
	}
	if settings == nil {
		settings = endpoints{networkName(mode): {}}
	}
	if s := settings[networkName(mode)]; s != nil {
		v.MAC = s.MacAddress
	}
	for name, s := range settings {
		v.Networks[name] = e.restingEndpoint(v, name, s)
	}
	if e.Networks == nil {
		return
	}
	box, ok := e.Networks.Sandbox(v.ID)
	if !ok {
		return
	}
	v.SandboxKey = box.Path
	for i := range box.Endpoints {
		x := &box.Endpoints[i]
		s := v.Networks[x.NetworkName]
		if s == nil {
			s = &apinet.EndpointSettings{}
			v.Networks[x.NetworkName] = s
		}
		fillEndpoint(s, x)
	}
	v.Ports = e.portMap(v, box)
}

// restingEndpoint is a connection as it is known without a namespace.
func (e *Engine) restingEndpoint(v *View, name string, s *apinet.EndpointSettings) *apinet.EndpointSettings {
	out := s.Copy()
	if e.Networks != nil {
		if r, err := e.Networks.Find(name); err == nil {
			out.NetworkID = r.ID
		}
	}
	if name != networks.Bridge && name != networks.Host && name != networks.None {
		out.DNSNames = dnsNames(v.ID, v.Name, v.Config.Hostname, s.Aliases)
	}
	return out
}

// fillEndpoint adds what is chosen when a container starts.
func fillEndpoint(s *apinet.EndpointSettings, x *networks.Endpoint) {
	s.NetworkID, s.EndpointID, s.MacAddress = x.Network, x.ID, apinet.HardwareAddr(x.MAC)
	s.Gateway, s.IPv6Gateway = x.Gateway4, x.Gateway6
	for _, a := range x.Addresses {
		if a.Addr().Is4() {
			s.IPAddress, s.IPPrefixLen = a.Addr(), a.Bits()
		} else {
			s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = a.Addr(), a.Bits()
		}
	}
}

// fitNetwork tells whether a container is connected to one of the networks that a
// filter names.
func (f Filters) fitNetwork(v *View) bool {
	if !f.has("network") {
		return true
	}
	values := []string{string(v.HostConfig.NetworkMode)}
	for name, s := range v.Networks {
		values = append(values, name, s.NetworkID)
	}
	return f.is("network", values...)
}
