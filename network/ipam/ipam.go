// Package ipam chooses subnets for networks and addresses for sandboxes.
//
// An [Allocator] does no I/O. Its caller keeps what [Allocator.Export] returns in
// the transaction that records the network or endpoint for which something was
// chosen, and hands it to [Allocator.Import] after a start. In that order nothing is
// given twice: an address that was chosen and not recorded is free again after a
// crash, one that is recorded stays taken, and one is released after the record of
// its endpoint is gone. What leaked all the same (an export that a caller forgot)
// [Allocator.Keep] finds, given the addresses that are in use.
//
// The set of taken addresses of a subnet is kept as rows, so that a /64 costs no more
// than its endpoints. Addresses are given in turn, not the lowest first: one that was
// just released rests, and with it the neighbours' ARP entries.
//
// An Allocator is safe for concurrent use.
package ipam

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/network"
)

// MaxPools bounds how many subnets there are.
const MaxPools = 4096

// Base is an address space from which subnets of one size are cut.
type Base struct {
	Space netip.Prefix `json:"space"`
	// Bits is the length of the subnets' prefix.
	Bits int `json:"bits"`
}

// Config tells which subnets are chosen for those who name none.
type Config struct {
	// Bases are tried in order; none of a family means the usual ones. For IPv6
	// that is /64s of a /48 of fd00::/8, drawn once and kept in the state, as
	// RFC 4193 wants it.
	Bases []Base
}

// usual are the Docker Engine's pools, which people's firewalls and VPNs know.
func usual() []Base {
	var out []Base
	for i := 17; i <= 31; i++ {
		out = append(out, Base{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i), 0, 0}), 16), 16})
	}
	return append(out, Base{netip.MustParsePrefix("192.168.0.0/16"), 20})
}

// Allocator holds the pools.
type Allocator struct {
	mu    sync.Mutex
	bases []Base
	local netip.Prefix // the /48
	pools map[netip.Prefix]*pool
}

// pool is a subnet that is taken.
type pool struct {
	Subnet netip.Prefix `json:"subnet"`
	Range  netip.Prefix `json:"range"`
	Used   runs         `json:"used"`
	// Last is the address that was given last.
	Last netip.Addr `json:"last"`
	// Fixed are the gateway and the auxiliary addresses, which Keep keeps.
	Fixed runs `json:"fixed"`
}

// State is what is kept of an allocator.
type State struct {
	Local netip.Prefix `json:"local"`
	Pools []*pool      `json:"pools"`
}

// New makes an allocator with nothing taken.
func New(c Config) (*Allocator, error) {
	a := &Allocator{pools: map[netip.Prefix]*pool{}, local: randomLocal()}
	var v4 bool
	for _, b := range c.Bases {
		if b.Space != b.Space.Masked() || !b.Space.IsValid() || b.Bits < b.Space.Bits() || b.Bits > b.Space.Addr().BitLen()-2 {
			return nil, fmt.Errorf("address pool %s in /%ds: %w", b.Space, b.Bits, errdefs.ErrInvalidArgument)
		}
		v4 = v4 || b.Space.Addr().Is4()
	}
	a.bases = slices.Clone(c.Bases)
	if !v4 {
		a.bases = append(a.bases, usual()...)
	}
	return a, nil
}

func randomLocal() netip.Prefix {
	b := [16]byte{0xfd}
	for i := 1; i < 6; i++ {
		b[i] = byte(rand.Uint32())
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 48)
}

// Request asks for a subnet.
type Request struct {
	// Pool is what the caller has decided already. Without a Subnet one is
	// chosen, and with an unspecified one, as 0.0.0.0/26, one of its size; without a
	// Gateway the first free address is.
	Pool network.Pool
	// IPv6 is the family of a subnet that is to be chosen.
	IPv6 bool
	// NoGateway leaves the first address to sandboxes.
	NoGateway bool
	// Avoid are the subnets that the host has routes to. A chosen subnet
	// overlaps none of them; for one that the caller named they don't matter.
	Avoid []netip.Prefix
}

// TakePool takes a subnet and returns it with its gateway. It returns
// ErrInvalidArgument for a pool that can't be, ErrAlreadyExists for one that overlaps
// another network's and ErrResourceExhausted when there is none left to choose.
func (a *Allocator) TakePool(r Request) (network.Pool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pools) >= MaxPools {
		return network.Pool{}, fmt.Errorf("more than %d subnets: %w", MaxPools, errdefs.ErrResourceExhausted)
	}
	if wanted := r.Pool.Subnet; !wanted.IsValid() || wanted.Addr().IsUnspecified() && wanted.Bits() > 0 {
		if r.Pool.Gateway.IsValid() || r.Pool.Range.IsValid() || len(r.Pool.Aux) > 0 {
			return network.Pool{}, fmt.Errorf("a gateway, range or auxiliary address needs a subnet that is named: %w", errdefs.ErrInvalidArgument)
		}
		var err error
		if r.Pool.Subnet, err = a.choose(&r); err != nil {
			return network.Pool{}, err
		}
	}
	p, err := a.makePool(&r)
	if err != nil {
		return network.Pool{}, err
	}
	a.pools[p.Subnet] = p
	return r.poolOf(p), nil
}

// poolOf completes the gateway and answers.
func (r *Request) poolOf(p *pool) network.Pool {
	out := r.Pool
	out.Range = netip.Prefix{}
	if p.Range != p.Subnet {
		out.Range = p.Range
	}
	out.Aux = maps.Clone(r.Pool.Aux)
	return out
}

// makePool checks a request with a subnet and reserves its fixed addresses.
func (a *Allocator) makePool(r *Request) (*pool, error) {
	subnet := r.Pool.Subnet
	bad := func(what string, v any) (*pool, error) {
		return nil, fmt.Errorf("subnet %s: %s %v: %w", subnet, what, v, errdefs.ErrInvalidArgument)
	}
	p := &pool{Subnet: subnet, Range: r.Pool.Range}
	if !p.Range.IsValid() {
		p.Range = subnet
	}
	switch {
	case subnet != subnet.Masked() || subnet.Addr().Is4In6() || subnet.Addr().IsMulticast() || subnet.Addr().IsLoopback():
		return bad("is none that hosts", "can be in")
	case subnet.Bits() == 0:
		return bad("is every address", "there is")
	case subnet.Bits() > subnet.Addr().BitLen()-1:
		return bad("has no room for a gateway", "and a container")
	case p.Range != p.Range.Masked() || p.Range.Bits() < subnet.Bits() || !subnet.Contains(p.Range.Addr()):
		return bad("doesn't hold the range", p.Range)
	}
	for _, q := range a.pools {
		if q.Subnet.Overlaps(subnet) {
			return nil, fmt.Errorf("subnet %s overlaps %s of another network: %w", subnet, q.Subnet, errdefs.ErrAlreadyExists)
		}
	}
	return p, p.reserve(&r.Pool, r.NoGateway)
}

// reserve takes gateway and auxiliary addresses.
func (p *pool) reserve(want *network.Pool, noGateway bool) error {
	fix := func(name string, x netip.Addr) error {
		if !p.Subnet.Contains(x) || x.Zone() != "" || p.Used.has(x) {
			return fmt.Errorf("subnet %s: %s %s is outside or taken twice: %w", p.Subnet, name, x, errdefs.ErrInvalidArgument)
		}
		p.Used.add(x)
		p.Fixed.add(x)
		return nil
	}
	if want.Gateway.IsValid() {
		if err := fix("gateway", want.Gateway); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Aux)) {
		if err := fix(name, want.Aux[name]); err != nil {
			return err
		}
	}
	if want.Gateway.IsValid() || noGateway {
		return nil
	}
	whole := *p
	whole.Range = p.Subnet
	if want.Range.IsValid() {
		whole.Range = want.Range // as the Engine does: the range's first
	}
	x, ok := whole.next()
	if !ok {
		return fmt.Errorf("subnet %s has no address for a gateway: %w", p.Subnet, errdefs.ErrInvalidArgument)
	}
	want.Gateway = x
	return fix("gateway", x)
}

// choose finds a subnet that overlaps nothing, of the size of the one that is asked for.
func (a *Allocator) choose(r *Request) (netip.Prefix, error) {
	avoid := slices.Clone(r.Avoid)
	for _, p := range a.pools {
		avoid = append(avoid, p.Subnet)
	}
	// A default route covers everything and says nothing.
	avoid = slices.DeleteFunc(avoid, func(p netip.Prefix) bool { return p.Bits() == 0 })
	bases := a.bases
	if r.IPv6 {
		bases = append(slices.Clone(bases), Base{a.local, 64})
	}
	for _, b := range bases {
		if b.Space.Addr().Is6() != r.IPv6 {
			continue
		}
		if wanted := r.Pool.Subnet; wanted.IsValid() {
			b.Bits = wanted.Bits()
		}
		if b.Bits < b.Space.Bits() {
			continue // all of it is less than that
		}
		if p, ok := b.free(avoid); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("no subnet is left in the default pools: %w", errdefs.ErrResourceExhausted)
}

// free is the first subnet of a base that overlaps none of avoid. Each step jumps
// behind something to avoid, so there are as many steps as those.
func (b Base) free(avoid []netip.Prefix) (netip.Prefix, bool) {
	for x := b.Space.Addr(); x.IsValid() && b.Space.Contains(x); {
		p := netip.PrefixFrom(x, b.Bits).Masked()
		i := slices.IndexFunc(avoid, p.Overlaps)
		if i < 0 {
			return p, true
		}
		end := lastOf(p)
		if far := lastOf(avoid[i]); end.Less(far) {
			end = far
		}
		x = end.Next()
	}
	return netip.Prefix{}, false
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// ReleasePool gives a subnet back; one that isn't taken is no error. It returns
// ErrFailedPrecondition while addresses of it are taken.
func (a *Allocator) ReleasePool(subnet netip.Prefix) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pools[subnet]
	if p != nil && !slices.Equal(p.Used, p.Fixed) {
		return fmt.Errorf("subnet %s is in use: %w", subnet, errdefs.ErrFailedPrecondition)
	}
	delete(a.pools, subnet)
	return nil
}

// Take takes an address of a subnet: the one wanted, which may lie outside the range,
// or with the zero value the next free one of the range. It returns ErrNotFound for
// an unknown subnet, ErrInvalidArgument for an address that no sandbox can have,
// ErrAlreadyExists for one that is taken, ErrResourceExhausted if none is free.
func (a *Allocator) Take(subnet netip.Prefix, wanted netip.Addr) (netip.Prefix, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.pools[subnet]
	if p == nil {
		return netip.Prefix{}, fmt.Errorf("subnet %s: %w", subnet, errdefs.ErrNotFound)
	}
	x := wanted
	if !wanted.IsValid() {
		var ok bool
		if x, ok = p.next(); !ok {
			return netip.Prefix{}, fmt.Errorf("no address is left in %s: %w", p.Range, errdefs.ErrResourceExhausted)
		}
		p.Last = x
	}
	switch first, last := p.bounds(subnet); {
	case !subnet.Contains(x) || x.Less(first) || last.Less(x):
		return netip.Prefix{}, fmt.Errorf("address %s is none of a host in %s: %w", x, subnet, errdefs.ErrInvalidArgument)
	case p.Used.has(x):
		return netip.Prefix{}, fmt.Errorf("address %s is in use: %w", x, errdefs.ErrAlreadyExists)
	}
	p.Used.add(x)
	return netip.PrefixFrom(x, subnet.Bits()), nil
}

// bounds are the first and last usable address within part. Not usable are an IPv4
// subnet's first and last (RFC 1122; a /31 has neither, RFC 3021), and an IPv6
// subnet's first, its routers' anycast address (RFC 4291; but in a /127, RFC 6164).
func (p *pool) bounds(part netip.Prefix) (first, last netip.Addr) {
	first, last = part.Addr(), lastOf(part)
	if p.Subnet.Bits() == p.Subnet.Addr().BitLen()-1 {
		return first, last
	}
	if first == p.Subnet.Addr() {
		first = first.Next()
	}
	if last == lastOf(p.Subnet) && last.Is4() {
		last = last.Prev()
	}
	return first, last
}

// next is the first free address behind the last one given, around the range once.
func (p *pool) next() (netip.Addr, bool) {
	first, last := p.bounds(p.Range)
	if from := p.Last.Next(); p.Last.IsValid() && first.Compare(from) <= 0 && from.Compare(last) <= 0 {
		if x, ok := p.Used.free(from, last); ok {
			return x, true
		}
	}
	return p.Used.free(first, last)
}

// Release gives an address back; one that isn't taken is no error. Gateways and
// auxiliary addresses stay taken.
func (a *Allocator) Release(subnet netip.Prefix, x netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pools[subnet]; p != nil && !p.Fixed.has(x) {
		p.Used.remove(x)
	}
}

// Keep releases what is taken and isn't live, subnets without a live one among it,
// and takes what is live and wasn't taken. Subnets map to their live addresses.
func (a *Allocator) Keep(live map[netip.Prefix][]netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for subnet, p := range a.pools {
		addresses, ok := live[subnet]
		if !ok {
			delete(a.pools, subnet)
			continue
		}
		p.Used = slices.Clone(p.Fixed)
		for _, x := range addresses {
			if subnet.Contains(x) {
				p.Used.add(x)
			}
		}
	}
}

// Export returns the state as JSON.
func (a *Allocator) Export() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := State{Local: a.local}
	for _, p := range a.pools {
		s.Pools = append(s.Pools, p)
	}
	slices.SortFunc(s.Pools, func(x, y *pool) int { return x.Subnet.Addr().Compare(y.Subnet.Addr()) })
	return json.Marshal(s)
}

// Import replaces the state by one that Export made. It changes nothing on error.
func (a *Allocator) Import(data []byte) error {
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("addresses: %w: %w", err, errdefs.ErrDataLoss)
	}
	pools := map[netip.Prefix]*pool{}
	for _, p := range s.Pools {
		if err := p.check(); err != nil {
			return fmt.Errorf("addresses: %w: %w", err, errdefs.ErrDataLoss)
		}
		for other := range pools {
			if other.Overlaps(p.Subnet) {
				return fmt.Errorf("addresses: subnets %s and %s overlap: %w", other, p.Subnet, errdefs.ErrDataLoss)
			}
		}
		pools[p.Subnet] = p
	}
	if s.Local.Bits() != 48 || !s.Local.Addr().Is6() || s.Local != s.Local.Masked() {
		return fmt.Errorf("addresses: local prefix %s: %w", s.Local, errdefs.ErrDataLoss)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pools, a.local = pools, s.Local
	return nil
}

// check tells whether a pool that was read holds together.
func (p *pool) check() error {
	if p == nil || !p.Subnet.IsValid() || p.Subnet != p.Subnet.Masked() || p.Subnet.Addr().Is4In6() ||
		p.Subnet.Bits() > p.Subnet.Addr().BitLen()-1 || p.Subnet.Bits() == 0 ||
		!p.Range.IsValid() || p.Range != p.Range.Masked() || p.Range.Bits() < p.Subnet.Bits() || !p.Subnet.Contains(p.Range.Addr()) {
		return fmt.Errorf("subnet is broken")
	}
	for _, set := range []runs{p.Used, p.Fixed} {
		for _, x := range set {
			if !p.Subnet.Contains(x.first) || !p.Subnet.Contains(x.last) {
				return fmt.Errorf("subnet %s: %s to %s is outside", p.Subnet, x.first, x.last)
			}
		}
	}
	for _, x := range p.Fixed {
		if i := p.Used.find(x.last); i == len(p.Used) || x.first.Less(p.Used[i].first) {
			return fmt.Errorf("subnet %s: %s is fixed and not taken", p.Subnet, x.first)
		}
	}
	if p.Last.IsValid() && (!p.Subnet.Contains(p.Last) || p.Last.Zone() != "") {
		return fmt.Errorf("subnet %s: %s is outside", p.Subnet, p.Last)
	}
	return nil
}
