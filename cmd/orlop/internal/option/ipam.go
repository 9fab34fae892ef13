package option

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"
)

// IPAM are the flags of a network's addresses.
type IPAM struct {
	driver                    string
	options, aux              *opts.MapOpts
	subnets, ranges, gateways []string
}

// Add declares the flags.
func (i *IPAM) Add(f *pflag.FlagSet) {
	i.options, i.aux = opts.NewMapOpts(nil, nil), opts.NewMapOpts(nil, nil)
	f.StringVar(&i.driver, "ipam-driver", "default", "Who chooses addresses")
	f.Var(i.options, "ipam-opt", "Options of the IPAM driver")
	f.StringSliceVar(&i.subnets, "subnet", nil, "Subnet (CIDR)")
	f.StringSliceVar(&i.ranges, "ip-range", nil, "Part of the subnet to choose from (CIDR)")
	f.StringSliceVar(&i.gateways, "gateway", nil, "Gateway's address in the subnet")
	f.Var(i.aux, "aux-address", "Addresses that others have (name=address)")
}

// Build sorts ranges, gateways and auxiliary addresses to their subnets.
func (i *IPAM) Build() (*network.IPAM, error) {
	out := &network.IPAM{Driver: i.driver, Options: i.options.GetAll()}
	for _, text := range i.subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet %q: %w", text, err)
		}
		for _, c := range out.Config {
			if c.Subnet.Overlaps(p) {
				return nil, fmt.Errorf("multiple overlapping subnet configuration is not supported: %s and %s", c.Subnet, p)
			}
		}
		out.Config = append(out.Config, network.IPAMConfig{Subnet: p})
	}
	for _, text := range i.ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid IP range %q: %w", text, err)
		}
		c, err := home(out.Config, p.Addr(), text)
		if err != nil {
			return nil, err
		}
		c.IPRange = p
	}
	for _, text := range i.gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("invalid gateway %q: %w", text, err)
		}
		c, err := home(out.Config, a, text)
		if err != nil {
			return nil, err
		}
		c.Gateway = a
	}
	return out, i.others(out)
}

func (i *IPAM) others(out *network.IPAM) error {
	for name, text := range i.aux.GetAll() {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return fmt.Errorf("invalid auxiliary address %q: %w", text, err)
		}
		c, err := home(out.Config, a, text)
		if err != nil {
			return err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return nil
}

// home finds the subnet that an address belongs to.
func home(list []network.IPAMConfig, a netip.Addr, text string) (*network.IPAMConfig, error) {
	for i := range list {
		if list[i].Subnet.Contains(a) {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("no matching subnet for %s: name it by --subnet", text)
}
