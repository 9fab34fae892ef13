package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

// Options of networks, in the words that Docker's users know them by.
const (
	optMTU         = "com.docker.network.driver.mtu"
	optName        = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optBinding     = "com.docker.network.bridge.host_binding_ipv4"
	optMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	optSource4     = "com.docker.network.host_ipv4"
	optSource6     = "com.docker.network.host_ipv6"
	optIPv4        = "com.docker.network.enable_ipv4"
	optIPv6        = "com.docker.network.enable_ipv6"
	optDefault     = "com.docker.network.bridge.default_bridge"
	optParent      = "parent"
	optMacvlanMode = "macvlan_mode"
	optIpvlanMode  = "ipvlan_mode"
	optInhibit4    = "com.docker.network.bridge.inhibit_ipv4"
	optTrusted     = "com.docker.network.bridge.trusted_host_interfaces"
	optSpoofing    = "dev.orlop.network.bridge.allow_spoofing"
)

// Options that mean nothing to drivers: the families are the network's, addresses of ours
// are never tentative, prefixes of interfaces are said for each endpoint.
var ignored = []string{optIPv4, optIPv6, "com.docker.network.container_iface_prefix",
	optDefault}

// readers read options into the form that drivers take.
var readers = map[string]func(o *port.Options, value string) error{
	optMTU: func(o *port.Options, v string) (err error) {
		o.MTU, err = strconv.Atoi(v)
		return err
	},
	optName: func(o *port.Options, v string) error {
		o.Bridge = v
		return port.CheckInterface(v)
	},
	optICC: func(o *port.Options, v string) error {
		on, err := strconv.ParseBool(v)
		o.Separate = !on
		return err
	},
	optMasquerade: func(o *port.Options, v string) error {
		on, err := strconv.ParseBool(v)
		o.NoMasquerade = !on
		return err
	},
	optInhibit4: func(o *port.Options, v string) (err error) {
		o.InhibitIPv4, err = strconv.ParseBool(v)
		return err
	},
	optSpoofing: func(o *port.Options, v string) (err error) {
		o.AllowSpoofing, err = strconv.ParseBool(v)
		return err
	},
	optBinding: func(o *port.Options, v string) (err error) {
		if v == "0.0.0.0" {
			return nil // every address, which includes those of IPv6
		}
		o.HostAddress, err = netip.ParseAddr(v)
		return err
	},
	optSource4: func(o *port.Options, v string) (err error) {
		o.Source4, err = readSource(v, false)
		return err
	},
	optSource6: func(o *port.Options, v string) (err error) {
		o.Source6, err = readSource(v, true)
		return err
	},
	optTrusted: func(o *port.Options, v string) error {
		o.Trusted = v
		return nil // the driver checks it
	},
	optMode4: func(o *port.Options, v string) error {
		o.Gateway4 = port.GatewayMode(v)
		return nil // the driver checks it
	},
	optMode6: func(o *port.Options, v string) error {
		o.Gateway6 = port.GatewayMode(v)
		return nil
	},
	optParent: func(o *port.Options, v string) error {
		o.Parent = v
		return port.CheckInterface(v)
	},
	optMacvlanMode: readMode, optIpvlanMode: readMode,
}

func readMode(o *port.Options, v string) error {
	o.Mode = v
	return nil
}

func readSource(v string, v6 bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil {
		return a, err
	}
	return a, port.CheckSource(a, v6)
}

// takes are which options a driver takes.
var takes = map[string][]string{
	"bridge":  {optMTU, optName, optICC, optMasquerade, optBinding, optSource4, optSource6, optMode4, optMode6, optInhibit4, optTrusted, optSpoofing},
	"macvlan": {optMTU, optParent, optMacvlanMode},
	"ipvlan":  {optMTU, optParent, optIpvlanMode},
}

// takesParent tells whether a driver's networks stand on an interface of the host's.
func takesParent(driver string) bool { return slices.Contains(takes[driver], optParent) }

// readOptions reads a network's options. One that isn't known is an error: who says
// something wants it to happen. Words of other systems' are let pass.
func readOptions(driver string, given map[string]string) (port.Options, error) {
	var o port.Options
	for key, value := range given {
		read := readers[key]
		ours := strings.HasPrefix(key, "com.docker.network.") || read != nil
		switch {
		case !ours || slices.Contains(ignored, key):
			continue
		case read == nil:
			return o, refuse(errdefs.ErrNotImplemented, "option %s of networks is not available yet", key)
		case !slices.Contains(takes[driver], key):
			return o, refuse(errdefs.ErrInvalidArgument, "networks of the driver %s have no option %s", driver, key)
		}
		if err := read(&o, value); err != nil {
			return o, refuse(errdefs.ErrInvalidArgument, "invalid value %q for option %s: %v", value, key, told(err, ""))
		}
	}
	return o, nil
}

// families are those that a network is to have: as it is said, or by options.
func families(c *Creation) (v4, v6 bool, err error) {
	v4 = true
	for _, f := range []struct {
		to   *bool
		said *bool
		key  string
	}{{&v4, c.IPv4, optIPv4}, {&v6, c.IPv6, optIPv6}} {
		text, given := c.Options[f.key]
		switch {
		case f.said != nil:
			*f.to = *f.said
		case given:
			if *f.to, err = strconv.ParseBool(text); err != nil {
				return v4, v6, refuse(errdefs.ErrInvalidArgument, "invalid value %q for option %s: true or false", text, f.key)
			}
		}
	}
	return v4, v6, nil
}

// Options of endpoints.
const (
	optSysctls = "com.docker.network.endpoint.sysctls"
	optIfname  = "com.docker.network.endpoint.ifname"
)
