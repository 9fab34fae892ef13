package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"github.com/orlop/orlop/services/engine"
	networks "github.com/orlop/orlop/services/network"
)

// sandboxID is what clients know a namespace by.
func sandboxID(v engine.View) string {
	if v.SandboxKey == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(v.SandboxKey))
	return hex.EncodeToString(sum[:])
}

// portSummaries are a container's ports as lists show them.
func portSummaries(v engine.View) []api.PortSummary {
	out := []api.PortSummary{}
	keys := slices.SortedFunc(maps.Keys(v.Ports), func(a, b network.Port) int { return int(a.Num()) - int(b.Num()) })
	for _, p := range keys {
		if !slices.ContainsFunc(v.Ports[p], func(b network.PortBinding) bool { return b.HostPort != "" }) {
			out = append(out, api.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
		for _, b := range v.Ports[p] {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil { // it is open at the container's own address
				continue
			}
			out = append(out, api.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: uint16(n), Type: string(p.Proto())})
		}
	}
	return out
}

// fill tells of the default bridge, which older clients take for the only network.
func (l *legacyNetwork) fill(n *network.EndpointSettings) {
	if n == nil || n.EndpointID == "" {
		return
	}
	l.EndpointID, l.MacAddress, l.IPPrefixLen, l.GlobalIPv6PrefixLen = n.EndpointID, n.MacAddress.String(), n.IPPrefixLen, n.GlobalIPv6PrefixLen
	for _, f := range []struct {
		to *string
		a  netip.Addr
	}{{&l.IPAddress, n.IPAddress}, {&l.Gateway, n.Gateway}, {&l.GlobalIPv6Address, n.GlobalIPv6Address}, {&l.IPv6Gateway, n.IPv6Gateway}} {
		if f.a.IsValid() {
			*f.to = f.a.String()
		}
	}
}

// firewall is what keeps networks apart, nil if there are none.
func (s *Server) firewall() *system.FirewallInfo {
	if s.engine.Networks == nil {
		return nil
	}
	return &system.FirewallInfo{Driver: "nftables"}
}

// devices are those that containers can ask for by name.
func (s *Server) devices() []system.DeviceInfo {
	var out []system.DeviceInfo
	for _, name := range s.engine.CDIDevices() {
		out = append(out, system.DeviceInfo{Source: "cdi", ID: name})
	}
	return out
}

// statusOf tells how many addresses of a network are taken and how many are left.
func statusOf(n *networks.Service, r networks.Record) *network.Status {
	out := network.SubnetStatuses{}
	for subnet, u := range n.Addresses(r.ID) {
		out[subnet] = network.SubnetStatus{IPsInUse: u.Used, DynamicIPsAvailable: u.Free}
	}
	return &network.Status{IPAM: network.IPAMStatus{Subnets: out}}
}
