package builtin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/log"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/ipam"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/kinds"
	connect "github.com/orlop/orlop/services/network"
)

// networksConfig is how networks and their addresses are chosen.
type networksConfig struct {
	// Bridge is the name of the default network's device. Empty derives it from the
	// state folder: orlop0, for the usual one.
	Bridge string `toml:"bridge"`
	// Pools are the address spaces of networks that name no subnet, each as
	// "10.64.0.0/12 in 24": a space, and the length of the subnets' prefix. Empty is
	// 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in 20; for IPv6 a /48 of
	// fd00::/8 that is this daemon's own, in 64.
	Pools []string `toml:"pools"`
	// DefaultBridge is "none" to leave containers that name no network without one, and
	// "kept" to have its device be there without containers, too.
	DefaultBridge string `toml:"default_bridge"`
	// IPv6 gives the default network IPv6, too.
	IPv6 bool `toml:"ipv6"`
	// BIP and BIP6 are the host's addresses on the default network, with the length of
	// its prefix, such as "10.9.0.1/16"; empty is the first of a pool's next subnet.
	BIP  string `toml:"bip"`
	BIP6 string `toml:"bip6"`
	// FixedCIDR and FixedCIDRv6 are the parts of the default network's subnets that
	// containers' addresses are chosen of; without bip they are the subnets.
	FixedCIDR   string `toml:"fixed_cidr"`
	FixedCIDRv6 string `toml:"fixed_cidr_v6"`
	// ICC lets containers of the default network reach each other.
	ICC bool `toml:"icc"`
	// IPMasq hides addresses of the default network behind the host's.
	IPMasq bool `toml:"ip_masq"`
	// MTU is the default network's, in bytes; 0 is the kernel's.
	MTU int `toml:"mtu"`
	// IP is where the default network's ports are published that name no address.
	IP string `toml:"ip"`
	// DefaultOptions are options of new networks that don't say, as "driver=option=value",
	// such as "bridge=com.docker.network.driver.mtu=1400".
	DefaultOptions []string `toml:"default_options"`
	// DNS are the servers that containers ask for names that name none (--dns); empty is
	// the host's.
	DNS []string `toml:"dns"`
	// DNSSearch are the domains in which containers look for short names that name none
	// (--dns-search); empty is the host's.
	DNSSearch []string `toml:"dns_search"`
	// DNSOptions are the options of resolv.conf of containers that name none
	// (--dns-option); empty is the host's.
	DNSOptions []string `toml:"dns_options"`
	// HostGateway are the addresses that host-gateway (--add-host) and the name
	// host.docker.internal stand for; empty is the gateway of a container's own network.
	HostGateway []string `toml:"host_gateway"`
	// Ready is how many network namespaces are kept ready for the next containers.
	Ready int `toml:"ready"`
}

// mostReady bounds how many namespaces may be kept; each takes some 100 KiB of the
// kernel's memory.
const mostReady = 256

// Validate checks the pools.
func (c *networksConfig) Validate() error {
	if c.Ready < 0 || c.Ready > mostReady {
		return fmt.Errorf("ready is %d, it must be between 0 and %d", c.Ready, mostReady)
	}
	if c.Bridge != "" {
		if err := network.CheckInterface(c.Bridge); err != nil {
			return err
		}
	}
	if _, err := c.base(); err != nil {
		return err
	}
	if _, err := c.naming(); err != nil {
		return err
	}
	if _, err := addressList("host_gateway", c.HostGateway); err != nil {
		return err
	}
	if _, err := connect.ReadOptionDefaults(c.DefaultOptions); err != nil {
		return fmt.Errorf("default_options: %w", err)
	}
	_, err := c.bases()
	return err
}

// naming is how names are found.
func (c *networksConfig) naming() (connect.Naming, error) {
	n := connect.Naming{Search: c.DNSSearch, Options: c.DNSOptions}
	var err error
	if n.Servers, err = addressList("dns", c.DNS); err != nil {
		return n, err
	}
	for _, word := range slices.Concat(c.DNSSearch, c.DNSOptions) {
		if word == "" || strings.ContainsAny(word, " \t\n") {
			return n, fmt.Errorf("dns_search, dns_options: %q is no word", word)
		}
	}
	return n, nil
}

// addressList reads the addresses of a key.
func addressList(key string, list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range list {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no address", key, text)
		}
		out = append(out, a)
	}
	return out, nil
}

// base is the default network.
func (c *networksConfig) base() (connect.Default, error) {
	d := connect.Default{IPv6: c.IPv6, None: c.DefaultBridge == "none", Kept: c.DefaultBridge == "kept"}
	if c.DefaultBridge != "" && !d.None && !d.Kept {
		return d, fmt.Errorf("default_bridge is %q: it can be \"none\" or \"kept\"", c.DefaultBridge)
	}
	for _, f := range []struct {
		name, text string
		to         *netip.Prefix
	}{{"bip", c.BIP, &d.Address4}, {"bip6", c.BIP6, &d.Address6}, {"fixed_cidr", c.FixedCIDR, &d.Range4}, {"fixed_cidr_v6", c.FixedCIDRv6, &d.Range6}} {
		if f.text == "" {
			continue
		}
		var err error
		if *f.to, err = netip.ParsePrefix(f.text); err != nil {
			return d, fmt.Errorf("%s: %q is no address with the length of a prefix", f.name, f.text)
		}
	}
	d.Options = network.Options{MTU: c.MTU, Separate: !c.ICC, NoMasquerade: !c.IPMasq}
	if c.IP != "" && c.IP != "0.0.0.0" {
		var err error
		if d.Options.HostAddress, err = netip.ParseAddr(c.IP); err != nil {
			return d, fmt.Errorf("ip: %q is no address", c.IP)
		}
	}
	return d, d.Validate()
}

func (c *networksConfig) bases() ([]ipam.Base, error) {
	var out []ipam.Base
	for _, text := range c.Pools {
		var space string
		var b ipam.Base
		_, err := fmt.Sscanf(text, "%s in %d", &space, &b.Bits)
		if err == nil {
			b.Space, err = netip.ParsePrefix(space)
		}
		if err != nil {
			return nil, fmt.Errorf("pools: %q is not like \"10.64.0.0/12 in 24\"", text)
		}
		out = append(out, b)
	}
	_, err := ipam.New(ipam.Config{Bases: out})
	return out, err
}

// networking adds the use-cases of networks.
func networking(r *plugins.Registry) {
	plugins.Provide(r, kinds.Networks, "local", func(s *plugins.Scope) plugins.Build[*connect.Service] {
		cfg := plugins.Config(s, networksConfig{Pools: []string{}, DefaultOptions: []string{}, DNS: []string{}, DNSSearch: []string{}, DNSOptions: []string{}, HostGateway: []string{}, Ready: 3, ICC: true, IPMasq: true})
		db, drivers := plugins.One(s, kinds.Metadata), plugins.All(s, kinds.Network)
		if cfg.Bridge == "" {
			cfg.Bridge = ours(s.Settings().State, "0")
		}
		return func(ctx context.Context) (*connect.Service, error) {
			bases, err := cfg.bases()
			if err != nil {
				return nil, err
			}
			base, err := cfg.base()
			if err != nil {
				return nil, err
			}
			naming, err := cfg.naming()
			if err != nil {
				return nil, err
			}
			options, err := connect.ReadOptionDefaults(cfg.DefaultOptions)
			if err != nil {
				return nil, err
			}
			gateway, err := addressList("host_gateway", cfg.HostGateway)
			if err != nil {
				return nil, err
			}
			return connect.Open(ctx, connect.Config{
				Default: base, Naming: naming, Options: options, HostGateway: gateway, State: s.State(), Bridge: cfg.Bridge, Pools: bases, Local: localOf(db().UUID()), Drivers: drivers(), Store: db().Networks(),
				Ready: cfg.Ready, Report: func(err error) { log.G(ctx).WithError(err).Warn("networks") },
			})
		}
	})
}

// ours is a name of this daemon's on the host: orlop for the usual state folder, with
// some digits of its hash for another, so that daemons don't meet.
func ours(state, end string) string {
	if state == config.DefaultSettings().State {
		return "orlop" + end
	}
	sum := sha256.Sum256([]byte(state))
	return "orlop" + hex.EncodeToString(sum[:4]) + end // 14 of an interface's 15 letters
}

// localOf is the /48 of fd00::/8 (RFC 4193) of a daemon, derived from what identifies
// it.
func localOf(id string) netip.Prefix {
	sum := sha256.Sum256([]byte(id))
	b := [16]byte{0xfd}
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 48)
}
