package engine

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
	apinet "github.com/moby/moby/api/types/network"

	port "github.com/orlop/orlop/network"
	networks "github.com/orlop/orlop/services/network"
)

// checkPorts refuses ports that can't be published.
func checkPorts(config *api.Config, h *hostConfig) error {
	if h.NetworkMode.IsContainer() && (len(h.PortBindings) > 0 || h.PublishAllPorts) {
		return invalid("conflicting options: port publishing and the container type network mode")
	}
	_, err := portsOf(config, h)
	return err
}

// portsOf are the ports that a container publishes: those whose place on the host was
// chosen first, so that the kernel's choice for the others takes none of them.
func portsOf(config *api.Config, h *hostConfig) ([]networks.Port, error) {
	var chosen, open []networks.Port
	for _, p := range sortedPorts(h.PortBindings) {
		bindings := h.PortBindings[p]
		if len(bindings) == 0 {
			bindings = []apinet.PortBinding{{}}
		}
		for _, b := range bindings {
			x, err := portOf(p, b)
			if err != nil {
				return nil, err
			}
			if x.Host == 0 {
				open = append(open, x)
			} else {
				chosen = append(chosen, x)
			}
		}
	}
	if h.PublishAllPorts {
		for _, p := range sortedPorts(config.ExposedPorts) {
			if _, bound := h.PortBindings[p]; !bound {
				x, err := portOf(p, apinet.PortBinding{})
				if err != nil {
					return nil, err
				}
				open = append(open, x)
			}
		}
	}
	all := append(chosen, open...)
	if len(all) > port.MaxPorts {
		return nil, invalid("a container can publish at most %d ports", port.MaxPorts)
	}
	return all, nil
}

func sortedPorts[V any](m map[apinet.Port]V) []apinet.Port {
	return slices.SortedFunc(maps.Keys(m), func(a, b apinet.Port) int {
		if d := int(a.Num()) - int(b.Num()); d != 0 {
			return d
		}
		return strings.Compare(string(a.Proto()), string(b.Proto()))
	})
}

func portOf(p apinet.Port, b apinet.PortBinding) (networks.Port, error) {
	out := networks.Port{Protocol: port.Protocol(p.Proto()), Container: p.Num(), HostAddress: b.HostIP.Unmap()}
	switch out.Protocol {
	case port.TCP, port.UDP, port.SCTP:
	default:
		return out, invalid("invalid port %s: unknown protocol", p)
	}
	if p.Num() == 0 {
		return out, invalid("invalid port %s: 0 is no port of a container", p)
	}
	first, last, ranged := strings.Cut(b.HostPort, "-")
	if first == "" || first == "0" && !ranged {
		return out, nil
	}
	n, err := strconv.ParseUint(first, 10, 16)
	m := n
	if err == nil && ranged {
		m, err = strconv.ParseUint(last, 10, 16)
	}
	if err != nil || n == 0 || m < n {
		return out, invalid("invalid port specification: %q", b.HostPort)
	}
	out.Host, out.HostEnd = uint16(n), uint16(m)
	return out, nil
}

// portMap is where a container's ports are reached: those that are exposed and not
// published have no binding.
func (e *Engine) portMap(v *View, box networks.Sandbox) apinet.PortMap {
	out := apinet.PortMap{}
	if !v.State.Running || v.HostConfig.NetworkMode.IsContainer() || v.HostConfig.NetworkMode.IsHost() {
		return out
	}
	for p := range v.Config.ExposedPorts {
		out[p] = nil
	}
	for p := range v.HostConfig.PortBindings {
		out[p] = nil
	}
	open := apinet.PortMap{}
	for i := range box.Endpoints {
		ep := &box.Endpoints[i]
		r, err := e.Networks.Find(ep.Network)
		if ep.Internal || err != nil {
			continue
		}
		for _, x := range ep.Ports {
			key, _ := apinet.PortFrom(x.Container, apinet.IPProtocol(x.Protocol))
			for _, a := range hostAddresses(&r, x) {
				own := apinet.PortBinding{HostIP: unspecified(a)}
				switch routed, same := routed(&r, ep, a); {
				case routed && same && !slices.Contains(open[key], own):
					open[key] = append(open[key], own)
				case !routed && !ep.Elsewhere(a):
					out[key] = append(out[key], apinet.PortBinding{HostIP: a, HostPort: strconv.Itoa(int(x.Host))})
				}
			}
		}
	}
	for key, bindings := range open { // after those of the host's
		out[key] = append(out[key], bindings...)
	}
	return out
}

// routed tells whether what an address of the host leads to is reached without it, and
// whether it is of the same family.
func routed(r *networks.Record, ep *networks.Endpoint, a netip.Addr) (routed, same bool) {
	same = ep.Address(a.Is6()).IsValid()
	mode := r.Options.Gateway4
	if a.Is6() == same { // what it leads to is IPv6
		mode = r.Options.Gateway6
	}
	return mode == port.Routed, same
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// hostAddresses are where a published port listens.
func hostAddresses(r *networks.Record, p networks.Port) []netip.Addr {
	if p.HostAddress.IsValid() {
		return []netip.Addr{p.HostAddress}
	}
	if r.Options.HostAddress.IsValid() {
		return []netip.Addr{r.Options.HostAddress}
	}
	out := []netip.Addr{netip.IPv4Unspecified()}
	if data, err := os.ReadFile("/proc/net/if_inet6"); err == nil && len(data) > 0 {
		out = append(out, netip.IPv6Unspecified())
	}
	return out
}
