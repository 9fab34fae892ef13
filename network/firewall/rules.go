package firewall

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// layout is everything that never changes.
type layout struct {
	inet, bridge *nftables.Table
	sets         map[string]*nftables.Set
	order        []string // of sets
	chains       []*chain
	byName       map[string]*chain
}

type chain struct {
	chain *nftables.Chain
	rules []*nftables.Rule
}

func newLayout(c Config) *layout {
	l := &layout{
		inet:   &nftables.Table{Family: nftables.TableFamilyINet, Name: c.Table},
		bridge: &nftables.Table{Family: nftables.TableFamilyBridge, Name: c.Table},
		sets:   map[string]*nftables.Set{}, byName: map[string]*chain{},
	}
	l.addSets()
	l.addChains()
	l.forwardRules(c.AcceptMark)
	l.rawRules()
	l.natRules()
	l.bridgeRules()
	l.linkRules()
	return l
}

func (l *layout) addSets() {
	var (
		name, proto, port = nftables.TypeIFName, nftables.TypeInetProto, nftables.TypeInetService
		ip4, ip6, mac     = nftables.TypeIPAddr, nftables.TypeIP6Addr, nftables.TypeEtherAddr
		verdict           = []nftables.SetDatatype{nftables.TypeVerdict}
	)
	set := func(t *nftables.Table, name string, data []nftables.SetDatatype, key ...nftables.SetDatatype) {
		s := &nftables.Set{Table: t, Name: name, KeyType: key[0], Concatenation: len(key) > 1}
		// Only listings care for the order: names are in the host's.
		if s.KeyByteOrder = binaryutil.BigEndian; key[0].Name == nftables.TypeIFName.Name {
			s.KeyByteOrder = binaryutil.NativeEndian
		}
		if len(key) > 1 {
			s.KeyType = nftables.MustConcatSetType(key...)
		}
		if len(data) == 1 {
			s.IsMap, s.DataType = true, data[0]
		} else if len(data) > 1 {
			s.IsMap, s.DataType = true, nftables.MustConcatSetType(data...)
		}
		l.sets[name] = s
		l.order = append(l.order, name)
	}
	set(l.inet, "bridges", nil, name)                         // all of ours
	set(l.inet, "same", nil, name, name)                      // each of them twice
	set(l.inet, "apart", nil, name, name, mac)                // and with their MAC: sandboxes are separate
	set(l.inet, "from", verdict, name)                        // what comes from internal ones
	set(l.inet, "to4", verdict, name)                         // what goes to them, by gateway mode
	set(l.inet, "to6", verdict, name)                         //
	set(l.inet, "masquerade4", nil, name)                     // whose sandboxes hide behind the host
	set(l.inet, "masquerade6", nil, name)                     //
	set(l.inet, "source4", []nftables.SetDatatype{ip4}, name) // or behind one of its addresses
	set(l.inet, "source6", []nftables.SetDatatype{ip6}, name) //
	set(l.inet, "guarded4", nil, ip4)                         // addresses nobody outside may use
	set(l.inet, "guarded6", nil, ip6)                         //
	set(l.inet, "self4", nil, ip4, ip4)                       // each sandbox's twice
	set(l.inet, "self6", nil, ip6, ip6)                       //
	set(l.inet, "local", nil, proto, port)                    // published on the loopback alone
	set(l.inet, "any4", []nftables.SetDatatype{ip4, port}, proto, port)
	set(l.inet, "any6", []nftables.SetDatatype{ip6, port}, proto, port)
	set(l.inet, "dnat4", []nftables.SetDatatype{ip4, port}, proto, ip4, port)
	set(l.inet, "dnat6", []nftables.SetDatatype{ip6, port}, proto, ip6, port)
	set(l.inet, "open4", nil, proto, ip4, port)       // published where there is no translation
	set(l.inet, "open6", nil, proto, ip6, port)       //
	set(l.inet, "trusted4", nil, name, ip4)           // by which interfaces sandboxes are reached
	set(l.inet, "trusted6", nil, name, ip6)           //
	set(l.inet, "near4", nil, name, proto, ip4, port) // ports of separate sandboxes, by their bridge
	set(l.inet, "near6", nil, name, proto, ip6, port) //
	set(l.inet, unrouted, nil, nftables.TypeNFProto)
	set(l.bridge, "ports", nil, name)                    // bridges' ports
	set(l.bridge, "mirrors", nil, name, name)            // each of them twice
	set(l.bridge, "strict", nil, name)                   // those that may not spoof
	set(l.bridge, "macs", nil, name, mac)                // what they may be
	set(l.bridge, "arp4", nil, name, ip4)                //
	set(l.bridge, "nd6", nil, name, ip6)                 //
	set(l.bridge, "separate", nil, name)                 // those that don't reach each other
	set(l.bridge, "pairs", nil, name, name)              // but for these, from and to,
	set(l.bridge, "links", nil, name, name, proto, port) // by these ports
}

func (l *layout) addChains() {
	add := func(t *nftables.Table, name string) *nftables.Chain {
		c := &nftables.Chain{Name: name, Table: t}
		l.byName[name] = &chain{chain: c}
		l.chains = append(l.chains, l.byName[name])
		return c
	}
	base := func(t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) {
		accept := nftables.ChainPolicyAccept
		c := add(t, name)
		c.Type, c.Hooknum, c.Priority, c.Policy = kind, hook, priority, &accept
	}
	for _, name := range []string{UserChain, "allow", "from-internal", "to-internal", "to-nat", "to-open", "to-routed"} {
		add(l.inet, name)
	}
	add(l.bridge, "links")
	base(l.inet, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	base(l.inet, "raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	base(l.inet, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	base(l.inet, "output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	base(l.inet, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	base(l.bridge, "mirror", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityRef(-300))
	base(l.bridge, "guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(-300))
}

// queue queues the tables with rules and without elements; the user's chain only if
// there is none.
func (l *layout) queue(c *nftables.Conn) error {
	c.AddTable(l.inet)
	c.AddTable(l.bridge)
	for _, x := range l.chains {
		c.AddChain(x.chain)
		if x.chain.Name != UserChain {
			c.FlushChain(x.chain)
		}
	}
	for _, name := range l.order {
		if err := c.AddSet(l.sets[name], nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", name, err)
		}
		c.FlushSet(l.sets[name])
	}
	for _, x := range l.chains {
		for _, r := range x.rules {
			c.AddRule(r)
		}
	}
	return nil
}

// part is a piece of a rule.
type part = []expr.Any

// rule appends a rule. The comment is what listings show and what Reconcile knows it
// by.
func (l *layout) rule(name, comment string, parts ...part) {
	c := l.byName[name]
	r := &nftables.Rule{Table: c.chain.Table, Chain: c.chain, UserData: userdata.AppendString(nil, userdata.TypeComment, comment)}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	c.rules = append(c.rules, r)
}

// Group is the group of interfaces (ip-link(8)) that bridges are in, of whatever daemon:
// "orl".
const Group = 0x6f726c

var group = binary.NativeEndian.AppendUint32(nil, Group)

// forwardRules decide what passes the host.
func (l *layout) forwardRules(mark uint32) {
	l.rule("forward", "the administrator's rules first", jump(UserChain))
	// What bridges carry themselves passes here too where br_netfilter is on; it isn't for
	// the bridge's own MAC address.
	l.rule("forward", "separate sandboxes, by their gateway", load(inName, 8), load(outName, 12), load4(destinationMAC, 16), l.inFrom("apart", 8), untranslated, drop)
	l.rule("forward", "from internal networks", load(inName, 1), l.verdict("from"))
	l.rule("forward", "to our networks", isIPv4, load(outName, 1), l.verdict("to4"))
	l.rule("forward", "to our networks", isIPv6, load(outName, 1), l.verdict("to6"))
	l.rule("forward", "from our networks to elsewhere", load(inName, 1), l.in("bridges"), jump("allow"))

	// Each daemon's own rules decide about its networks: ours must not close the host to them.
	l.rule("forward", "networks of other daemons", meta(expr.MetaKeyIIFGROUP, group), accept)
	l.rule("forward", "networks of other daemons", meta(expr.MetaKeyOIFGROUP, group), accept)
	l.rule("forward", "the host was no router before us", ipVersion(1), l.in(unrouted), drop)

	if mark != 0 {
		l.rule("allow", "tell other tables", setMark(mark))
	}
	l.rule("allow", "let pass", accept)

	l.rule("from-internal", "within one network", l.same(), jump("allow"))
	l.rule("from-internal", "nowhere else", drop)

	l.rule("to-internal", "within one network", l.same(), jump("allow"))
	l.rule("to-internal", "from nowhere else", drop)

	l.rule("to-nat", "answers", established, jump("allow"))
	l.rule("to-nat", "published ports", translated, jump("allow"))
	l.rule("to-nat", "within one network", l.same(), jump("allow"))
	from4, from6 := part(append(load(inName, 8), load4(destination4, 12)...)), part(append(load(inName, 8), load4(destination6, 12)...))
	l.rule("to-nat", "published ports, by trusted interfaces", isIPv4, from4, l.inFrom("trusted4", 8), proto(8), load4(destination4, 9), load4(destinationPort, 10), l.inFrom("open4", 8), jump("allow"))
	l.rule("to-nat", "published ports, by trusted interfaces", isIPv6, from6, l.inFrom("trusted6", 8), proto(8), load4(destination6, 9), load4(destinationPort, 13), l.inFrom("open6", 8), jump("allow"))
	l.rule("to-nat", "what isn't published isn't reachable", drop)

	l.rule("to-open", "every port", jump("allow"))

	l.rule("to-routed", "answers", established, jump("allow"))
	l.rule("to-routed", "within one network", l.same(), jump("allow"))
	l.rule("to-routed", "published ports", isIPv4, proto(8), load4(destination4, 9), load4(destinationPort, 10), l.inFrom("open4", 8), jump("allow"))
	l.rule("to-routed", "published ports", isIPv6, proto(8), load4(destination6, 9), load4(destinationPort, 13), l.inFrom("open6", 8), jump("allow"))
	l.rule("to-routed", "ping and errors", isIPv4, isProto(protoICMP), jump("allow"))
	l.rule("to-routed", "ping and errors", isIPv6, isProto(protoICMP6), jump("allow"))
	l.rule("to-routed", "what isn't published isn't reachable", drop)
}

// rawRules drop what neighbours send to addresses that are none of theirs to use.
func (l *layout) rawRules() {
	l.rule("raw", "but by trusted interfaces", isIPv4, load(inName, 8), load4(destination4, 12), l.inFrom("trusted4", 8), accept)
	l.rule("raw", "but by trusted interfaces", isIPv6, load(inName, 8), load4(destination6, 12), l.inFrom("trusted6", 8), accept)
	l.rule("raw", "sandboxes are reached by published ports only", isIPv4, load(inName, 1), l.notIn("bridges"), load4(destination4, 1), l.in("guarded4"), drop)
	l.rule("raw", "sandboxes are reached by published ports only", isIPv6, load(inName, 1), l.notIn("bridges"), load4(destination6, 1), l.in("guarded6"), drop)
	l.rule("raw", "published on the loopback, from elsewhere", isIPv4, notLoopbackIn, toLoopback4, proto(8), load4(destinationPort, 9), l.inFrom("local", 8), drop)
	l.rule("raw", "published on the loopback, from elsewhere", isIPv6, notLoopbackIn, toLoopback6, proto(8), load4(destinationPort, 9), l.inFrom("local", 8), drop)
}

// natRules translate addresses.
func (l *layout) natRules() {
	// Where br_netfilter is on, a packet that leads back to the bridge it came by isn't
	// routed but bridged, and the bridge keeps separate sandboxes from each other.
	for _, any := range []bool{false, true} {
		to4, to6 := load4(destination4, 13), load4(destination6, 13)
		if any {
			to4, to6 = zero(13, 4), zero(13, 16)
		}
		l.rule("prerouting", "neighbours' ports are the proxy's", isIPv4, load(inName, 8), proto(12), to4, load4(destinationPort, 14), l.inFrom("near4", 8), accept)
		l.rule("prerouting", "neighbours' ports are the proxy's", isIPv6, load(inName, 8), proto(12), to6, load4(destinationPort, 17), l.inFrom("near6", 8), accept)
	}
	for _, c := range []string{"prerouting", "output"} {
		l.rule(c, "published on an address", isIPv4, proto(8), load4(destination4, 9), load4(destinationPort, 10), l.value("dnat4", 8), dnat(true))
		l.rule(c, "published on an address", isIPv6, proto(8), load4(destination6, 9), load4(destinationPort, 13), l.value("dnat6", 8), dnat(false))
		l.rule(c, "the loopback is the proxy's", isIPv4, toLoopback4, accept)
		l.rule(c, "the loopback is the proxy's", isIPv6, toLoopback6, accept)
		// Who calls by it has an address of that link, and no packet of one is routed.
		l.rule(c, "the link's own addresses are the proxy's", isIPv6, toLinkLocal6, accept)
		l.rule(c, "published on every address", isIPv4, toHost, proto(8), load4(destinationPort, 9), l.value("any4", 8), dnat(true))
		l.rule(c, "published on every address", isIPv6, toHost, proto(8), load4(destinationPort, 9), l.value("any6", 8), dnat(false))
	}
	l.rule("postrouting", "back to the network it came from", l.same(), translated, masquerade)
	// Where br_netfilter carries it, the interface it came by isn't known here.
	l.rule("postrouting", "back to who it came from", isIPv4, load4(source4, 8), load4(destination4, 9), l.inFrom("self4", 8), masquerade)
	l.rule("postrouting", "back to who it came from", isIPv6, load4(source6, 8), load4(destination6, 12), l.inFrom("self6", 8), masquerade)
	l.rule("postrouting", "hide behind the host", isIPv4, load(outName, 1), l.notIn("bridges"), load(inName, 1), l.in("masquerade4"), masquerade)
	l.rule("postrouting", "hide behind the host", isIPv6, load(outName, 1), l.notIn("bridges"), load(inName, 1), l.in("masquerade6"), masquerade)
	l.rule("postrouting", "hide behind one of its addresses", isIPv4, load(outName, 1), l.notIn("bridges"), load(inName, 1), l.value("source4", 1), snat(true))
	l.rule("postrouting", "hide behind one of its addresses", isIPv6, load(outName, 1), l.notIn("bridges"), load(inName, 1), l.value("source6", 1), snat(false))
}

// bridgeRules keep sandboxes from being routers, and others.
func (l *layout) bridgeRules() {
	// Ports take frames back (hairpin) for those who call themselves by a published
	// port; with br_netfilter the kernel doesn't route such packets.
	l.rule("mirror", "no echo of multicast", load(inName, 8), load(outName, 12), l.inFrom("mirrors", 8), multicast, drop)
	l.rule("guard", "others' ports", load(inName, 1), l.notIn("ports"), accept)
	l.rule("guard", "no router advertisements", isICMP6(134), drop)
	l.rule("guard", "no redirects", isICMP6(137), drop)
	l.rule("guard", "those that may", load(inName, 1), l.notIn("strict"), accept)
	l.rule("guard", "its own MAC address", load(inName, 8), load4(sourceMAC, 12), l.notInFrom("macs", 8), drop)
	l.rule("guard", "its own MAC address in ARP", isARP, load(inName, 8), load4(arpMAC, 12), l.notInFrom("macs", 8), drop)
	l.rule("guard", "probes name no address", isARP, arpProbe, accept)
	l.rule("guard", "its own address in ARP", isARP, load(inName, 8), load4(arpAddress, 12), l.notInFrom("arp4", 8), drop)
	l.rule("guard", "its own address as a neighbour", isICMP6(neighbourAdvertisement), load(inName, 8), load4(ndTarget, 12), l.notInFrom("nd6", 8), drop)
}
