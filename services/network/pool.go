package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	port "github.com/orlop/orlop/network"
)

// checkPools tells all that is wrong with the subnets that were named, but for those of a
// family that the network hasn't.
func checkPools(r *port.Record, named []port.Pool) error {
	var errs []error
	for i, p := range named {
		if v6 := p.Subnet.Addr().Is6(); !p.Subnet.IsValid() || v6 && !r.IPv6 || !v6 && !r.IPv4 {
			continue
		}
		errs = append(errs, checkPool(&p)...)
		for _, q := range named[:i] {
			if q.Subnet.Overlaps(p.Subnet) {
				errs = append(errs, fmt.Errorf("invalid subnet %s: it overlaps %s", p.Subnet, q.Subnet))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return refuse(errdefs.ErrInvalidArgument, "invalid network config:\n%v", err)
	}
	return nil
}

func checkPool(p *port.Pool) (errs []error) {
	if whole := p.Subnet.Masked(); p.Subnet != whole {
		errs = append(errs, fmt.Errorf("invalid subnet %s: it should be %s", p.Subnet, whole))
	}
	inside := func(what string, a netip.Addr) {
		if a.IsValid() && !p.Subnet.Contains(a) {
			errs = append(errs, fmt.Errorf("invalid %s %s: it is not in the subnet %s", what, a, p.Subnet))
		}
	}
	inside("gateway", p.Gateway)
	names := map[netip.Addr]string{p.Gateway: "the gateway"}
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		a := p.Aux[name]
		inside("auxiliary address "+name, a)
		if other := names[a]; other != "" {
			errs = append(errs, fmt.Errorf("invalid auxiliary address %s %s: it is %s's, too", name, a, other))
		}
		names[a] = name
	}
	switch x := p.Range; {
	case !x.IsValid():
	case x.Addr().BitLen() != p.Subnet.Addr().BitLen() || !p.Subnet.Overlaps(x):
		errs = append(errs, fmt.Errorf("invalid ip-range %s: it is not in the subnet %s", x, p.Subnet))
	case x.Bits() < p.Subnet.Bits():
		errs = append(errs, fmt.Errorf("invalid ip-range %s: it is larger than the subnet %s", x, p.Subnet))
	case x != x.Masked():
		errs = append(errs, fmt.Errorf("invalid ip-range %s: it should be %s", x, x.Masked()))
	}
	return errs
}
