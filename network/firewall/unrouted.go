package firewall

import (
	"context"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// unrouted is the set of families in which the host forwarded nothing before us.
const unrouted = "unrouted"

// SetUnrouted notes that forwarding was off for a family and that we have turned it
// on: the host still isn't to forward between networks that aren't ours. The note is
// kept in the kernel, beside the setting that it is about, and outlives the daemon;
// it goes with the last network.
func (f *Firewall) SetUnrouted(ctx context.Context, v6 bool) error {
	return f.change(ctx, []item{element(unrouted, []byte{family(v6)})}, nil)
}

// Unrouted tells whether we have turned forwarding on for a family.
func (f *Firewall) Unrouted(v6 bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.unrouted()[string([]byte{family(v6)})]
	return ok
}

func family(v6 bool) byte {
	if v6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// unrouted is what we know, or before we know anything what an earlier daemon noted.
// The mutex is held.
func (f *Firewall) unrouted() map[string]nftables.SetElement {
	if f.present {
		return maps.Clone(f.wished[unrouted])
	}
	out := maps.Clone(f.wished[unrouted])
	elements, err := f.conn.GetSetElements(f.layout.sets[unrouted])
	if err != nil {
		return out // no table, no note
	}
	for _, e := range elements {
		if out == nil {
			out = map[string]nftables.SetElement{}
		}
		out[string(e.Key)] = nftables.SetElement{Key: e.Key}
	}
	return out
}
