package network

import (
	"net/netip"

	"github.com/orlop/orlop/network/ipam"
)

// Addresses tells how many addresses of a network's subnets are taken.
func (s *Service) Addresses(id string) map[netip.Prefix]ipam.Usage {
	r, err := s.Find(id)
	out := map[netip.Prefix]ipam.Usage{}
	if err != nil {
		return out
	}
	for _, p := range r.Pools {
		if u, ok := s.pools.Usage(p.Subnet); ok {
			out[p.Subnet] = u
		}
	}
	return out
}
