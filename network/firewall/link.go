package firewall

import (
	"context"

	"github.com/orlop/orlop/network"
)

// Link opens a way between two separate endpoints.
type Link struct {
	// From and To are the names of the bridge's ports.
	From, To string
	// Services are what From reaches at To.
	Services []network.Service
}

// items are the elements of a link: who knows whom as a neighbour, and what passes.
func (l Link) items() ([]item, error) {
	for _, name := range []string{l.From, l.To} {
		if err := network.CheckInterface(name); err != nil {
			return nil, err
		}
	}
	from, to := name16(l.From), name16(l.To)
	out := []item{element("pairs", from, to)}
	for _, s := range l.Services {
		number, err := protocolNumber(s.Protocol)
		if err != nil {
			return nil, err
		}
		out = append(out, element("links", from, to, []byte{number}, word(s.Port)))
	}
	return out, nil
}

func linkItems(links []Link) ([]item, error) {
	var out []item
	for _, l := range links {
		items, err := l.items()
		if err != nil {
			return nil, err
		}
		out = append(out, items...)
	}
	return out, nil
}

// SetLinks makes these links of the ones before.
func (f *Firewall) SetLinks(ctx context.Context, before, now []Link) error {
	remove, err := linkItems(before)
	if err != nil {
		return err
	}
	add, err := linkItems(now)
	if err != nil {
		return err
	}
	return f.replace(ctx, remove, add)
}

// replace makes these items of the ones before, in one transaction.
func (f *Firewall) replace(ctx context.Context, before, now []item) error {
	kept := contents{}
	kept.add(now)
	var gone []item
	for _, i := range before {
		if _, ok := kept[i.set][i.key()]; !ok {
			gone = append(gone, i)
		}
	}
	return f.change(ctx, now, gone)
}

// linkRules decide between the separate sandboxes of one bridge. They keep no state:
// answers are known by the port they come from.
func (l *layout) linkRules() {
	const forth, back = 8, 12 // where the names of the two ports begin
	between := func(in, out uint32) []part { return []part{load(inName, in), load(outName, out)} }
	pass := func(comment string, in, out uint32, rest ...part) {
		l.rule("links", comment, append(append(between(in, out), rest...), accept)...)
	}
	l.rule("mirror", "separate sandboxes", load(inName, 1), l.in("separate"), load(outName, 1), l.in("separate"), jump("links"))
	pass("to a port that a link is for", forth, back, proto(16), load4(destinationPort, 17), l.inFrom("links", 8))
	pass("its answers", back, forth, proto(16), load4(sourcePort, 17), l.inFrom("links", 8))
	for _, way := range [][2]uint32{{forth, back}, {back, forth}} {
		pair := l.inFrom("pairs", 8)
		pass("who has which address", way[0], way[1], pair, isARP)
		pass("who has which address", way[0], way[1], pair, isICMP6(neighbourSolicitation))
		pass("who has which address", way[0], way[1], pair, isICMP6(neighbourAdvertisement))
	}
	l.rule("links", "nothing else", drop)
}
