package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// run is a row of addresses, both ends in it.
type run struct{ first, last netip.Addr }

// runs is a set of addresses: sorted rows with gaps between them. It is as large as
// the set is ragged, however many addresses a subnet has.
type runs []run

// find is the index of the first run that ends at a or behind it.
func (r runs) find(a netip.Addr) int {
	i, _ := slices.BinarySearchFunc(r, a, func(x run, a netip.Addr) int { return x.last.Compare(a) })
	return i
}

func (r runs) has(a netip.Addr) bool {
	i := r.find(a)
	return i < len(r) && r[i].first.Compare(a) <= 0
}

// add puts a in and joins the runs that it touches.
func (r *runs) add(a netip.Addr) {
	if r.has(a) {
		return
	}
	i := r.find(a)
	before := i > 0 && (*r)[i-1].last.Next() == a
	after := i < len(*r) && a.Next() == (*r)[i].first
	switch {
	case before && after:
		(*r)[i-1].last = (*r)[i].last
		*r = slices.Delete(*r, i, i+1)
	case before:
		(*r)[i-1].last = a
	case after:
		(*r)[i].first = a
	default:
		*r = slices.Insert(*r, i, run{a, a})
	}
}

// remove takes a out and reports whether it was in.
func (r *runs) remove(a netip.Addr) bool {
	if !r.has(a) {
		return false
	}
	i := r.find(a)
	x := (*r)[i]
	switch {
	case x.first == a && x.last == a:
		*r = slices.Delete(*r, i, i+1)
	case x.first == a:
		(*r)[i].first = a.Next()
	case x.last == a:
		(*r)[i].last = a.Prev()
	default:
		(*r)[i].last = a.Prev()
		*r = slices.Insert(*r, i+1, run{a.Next(), x.last})
	}
	return true
}

// free is the first address from a to last that is not in the set.
func (r runs) free(a, last netip.Addr) (netip.Addr, bool) {
	if i := r.find(a); i < len(r) && r[i].first.Compare(a) <= 0 {
		a = r[i].last.Next() // runs don't touch, so what follows a run is free
	}
	return a, a.IsValid() && a.Compare(last) <= 0
}

// MarshalText writes "10.0.0.1-10.0.0.9,10.0.0.12".
func (r runs) MarshalText() ([]byte, error) {
	var b strings.Builder
	for i, x := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(x.first.String())
		if x.first != x.last {
			b.WriteByte('-')
			b.WriteString(x.last.String())
		}
	}
	return []byte(b.String()), nil
}

// UnmarshalText reads what MarshalText wrote and refuses what it wouldn't write.
func (r *runs) UnmarshalText(text []byte) error {
	*r = nil
	if len(text) == 0 {
		return nil
	}
	for part := range strings.SplitSeq(string(text), ",") {
		first, last, row := strings.Cut(part, "-")
		if !row {
			last = first
		}
		x, err := parseRun(first, last)
		if err != nil {
			return fmt.Errorf("addresses %q: %w", part, err)
		}
		if n := len(*r); n > 0 && !((*r)[n-1].last.BitLen() == x.first.BitLen() && (*r)[n-1].last.Next().Less(x.first)) {
			return fmt.Errorf("addresses %q: out of order", part)
		}
		*r = append(*r, x)
	}
	return nil
}

func parseRun(first, last string) (run, error) {
	a, err := netip.ParseAddr(first)
	if err != nil {
		return run{}, err
	}
	b, err := netip.ParseAddr(last)
	if err != nil {
		return run{}, err
	}
	if a.Zone() != "" || a.BitLen() != b.BitLen() || b.Zone() != "" || b.Less(a) || a.Is4In6() || b.Is4In6() {
		return run{}, fmt.Errorf("%s to %s is no row", a, b)
	}
	return run{a, b}, nil
}
