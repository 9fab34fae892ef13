package ipam

import (
	"math"
	"math/big"
	"net/netip"
)

// Usage is how many addresses of a subnet are taken, those that no sandbox can have
// among them, and how many of its range are free. Both saturate.
type Usage struct{ Used, Free uint64 }

// Usage tells what is taken of a subnet; false if there is no such subnet.
func (a *Allocator) Usage(subnet netip.Prefix) (Usage, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pools[subnet]
	if p == nil {
		return Usage{}, false
	}
	taken := p.taken()
	first, last := p.Range.Addr(), lastOf(p.Range)
	free := distance(first, last)
	return Usage{saturated(taken.count(subnet.Addr(), lastOf(subnet))), saturated(free.Sub(free, taken.count(first, last)))}, true
}

// taken are the addresses that can't be given: used ones, and those outside the bounds.
func (p *pool) taken() runs {
	out := append(runs{}, p.Used...)
	first, last := p.bounds(p.Subnet)
	if first != p.Subnet.Addr() {
		out.add(p.Subnet.Addr())
	}
	if end := lastOf(p.Subnet); last != end {
		out.add(end)
	}
	return out
}

// count is how many addresses of the set lie between two.
func (r runs) count(first, last netip.Addr) *big.Int {
	out := new(big.Int)
	for _, x := range r {
		a, b := x.first, x.last
		if a.Less(first) {
			a = first
		}
		if last.Less(b) {
			b = last
		}
		if a.Compare(b) <= 0 {
			out.Add(out, distance(a, b))
		}
	}
	return out
}

// distance is how many addresses there are from a to b, with both.
func distance(a, b netip.Addr) *big.Int {
	x := new(big.Int).SetBytes(b.AsSlice())
	x.Sub(x, new(big.Int).SetBytes(a.AsSlice()))
	return x.Add(x, big.NewInt(1))
}

func saturated(n *big.Int) uint64 {
	if !n.IsUint64() {
		return math.MaxUint64
	}
	return n.Uint64()
}
