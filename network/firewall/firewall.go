// Package firewall decides by nftables what passes between networks, the host and
// the world, and translates addresses.
//
// # Layout
//
// There are two tables of the same name, one of the family inet and one of the
// family bridge. Their rules never change: they look everything up in sets and maps,
// so that a network is a handful of elements and a published port one. What the
// rules say stands in rules.go, in order.
//
// # Others
//
// The tables are ours alone and nobody else's is touched. An administrator's rules
// go into the chain orlop-user of the inet table, which forwarded packets pass
// first; it is never changed by us, and while it holds rules the table stays even
// when no network is left. An accept of ours is final in our chain only: a packet
// passes if firewalld's, ufw's or anybody's chain accepts it as well. Those that
// refuse by default can be told by [Config].AcceptMark: packets that we let through
// carry that bit, for rules such as
//
//	firewall-cmd --direct --add-rule ipv4 filter FORWARD 0 -m mark --mark 0x2000/0x2000 -j ACCEPT
//
// # What survives
//
// Everything is set in one transaction: no packet meets half of it. The wished state
// is in memory; [Firewall.Watch] sets it again when somebody flushes the ruleset. A
// change that finds the tables gone sets everything again too.
//
// A Firewall is safe for concurrent use.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/network/namespace"
)

// Config tells where the tables are.
type Config struct {
	// Table is the name of both tables; "" is orlop.
	Table string
	// Namespace is the host's; nil is the calling process's.
	Namespace *namespace.Namespace
	// AcceptMark is put into the mark of packets that are let through; 0 is none.
	AcceptMark uint32
}

// UserChain is the name of the administrator's chain.
const UserChain = "orlop-user"

// Firewall holds the wished state and a socket.
type Firewall struct {
	config Config
	layout *layout

	mu      sync.Mutex
	conn    *nftables.Conn
	wished  contents
	present bool // the tables were set by this process
}

// contents are the elements of each set, by their keys.
type contents map[string]map[string]nftables.SetElement

// Open opens a socket and changes nothing.
func Open(c Config) (*Firewall, error) {
	if c.Table == "" {
		c.Table = "orlop"
	}
	options := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(largeBuffers)}
	if c.Namespace != nil {
		options = append(options, nftables.WithNetNSFd(c.Namespace.FD()))
	}
	conn, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return &Firewall{config: c, layout: newLayout(c), conn: conn, wished: contents{}}, nil
}

// largeBuffers lets a transaction with all ports be sent and answered.
func largeBuffers(c *netlink.Conn) error {
	const size = 8 << 20 // 65536 elements of 100 bytes, and a little
	return errors.Join(c.SetReadBuffer(size), c.SetWriteBuffer(size))
}

// Close closes the socket and leaves the tables.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn.CloseLasting()
}

// item is an element and its set.
type item struct {
	set  string
	elem nftables.SetElement
}

// key tells a set's elements apart.
func (i *item) key() string { return string(i.elem.Key) }

// SetNetwork lets a network through. One that is there already is replaced.
func (f *Firewall) SetNetwork(ctx context.Context, n Network) error {
	items, err := n.items()
	if err != nil {
		return err
	}
	return f.change(ctx, items, nil)
}

// RemoveNetwork takes a network out. With the last one the tables go, unless the
// administrator's chain holds rules.
func (f *Firewall) RemoveNetwork(ctx context.Context, n Network) error {
	items, err := n.items()
	if err != nil {
		return err
	}
	return f.change(ctx, nil, items)
}

// SetEndpoint lets an endpoint through and publishes its ports.
func (f *Firewall) SetEndpoint(ctx context.Context, e Endpoint) error {
	items, err := e.items()
	if err != nil {
		return err
	}
	return f.change(ctx, items, nil)
}

// ReplaceEndpoint makes one of an endpoint as it was set before.
func (f *Firewall) ReplaceEndpoint(ctx context.Context, before, now Endpoint) error {
	remove, err := before.items()
	if err != nil {
		return err
	}
	add, err := now.items()
	if err != nil {
		return err
	}
	return f.replace(ctx, remove, add)
}

// RemoveEndpoint takes an endpoint out.
func (f *Firewall) RemoveEndpoint(ctx context.Context, e Endpoint) error {
	items, err := e.items()
	if err != nil {
		return err
	}
	return f.change(ctx, nil, items)
}

// Replace makes these networks and endpoints all that there is, and sets everything
// again, whatever is there: for a daemon's start.
func (f *Firewall) Replace(ctx context.Context, networks []Network, endpoints []Endpoint) error {
	all := contents{}
	for _, n := range networks {
		items, err := n.items()
		if err != nil {
			return err
		}
		all.add(items)
	}
	for _, e := range endpoints {
		items, err := e.items()
		if err != nil {
			return err
		}
		all.add(items)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if set := f.unrouted(); len(set) > 0 {
		all[unrouted] = set
	}
	f.wished = all
	if all.empty() {
		return f.remove()
	}
	return f.setAll(ctx)
}

func (c contents) add(items []item) {
	for _, i := range items {
		if c[i.set] == nil {
			c[i.set] = map[string]nftables.SetElement{}
		}
		c[i.set][i.key()] = i.elem
	}
}

func (c contents) remove(items []item) {
	for _, i := range items {
		delete(c[i.set], i.key())
		if len(c[i.set]) == 0 {
			delete(c, i.set)
		}
	}
}

// empty tells whether there is nothing to let through.
func (c contents) empty() bool { return len(c) == 0 || len(c) == 1 && c[unrouted] != nil }

// same tells whether an element is wished just so already.
func (c contents) same(i item) bool {
	old, ok := c[i.set][i.key()]
	return ok && slices.Equal(old.Val, i.elem.Val) &&
		(old.VerdictData == nil || i.elem.VerdictData == nil || old.VerdictData.Chain == i.elem.VerdictData.Chain)
}

// change carries out additions and removals in one transaction; on error nothing has
// changed.
func (f *Firewall) change(ctx context.Context, add, remove []item) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	add, remove = unique(add), unique(remove)
	add = slices.DeleteFunc(add, f.wished.same)
	remove = slices.DeleteFunc(remove, func(i item) bool { _, ok := f.wished[i.set][i.key()]; return !ok })
	if len(add)+len(remove) == 0 && f.present {
		return nil
	}
	old := f.wished.pick(add, remove)
	f.wished.remove(remove)
	f.wished.add(add)
	err := f.carryOut(ctx, old, add)
	if err != nil {
		f.wished.remove(add)
		f.wished.add(old)
	}
	return err
}

// unique leaves each element once: two ports may lead to one of a sandbox's, and the
// kernel refuses to remove what is gone.
func unique(items []item) []item {
	seen := map[string]bool{}
	return slices.DeleteFunc(items, func(i item) bool {
		key := i.set + " " + i.key()
		twice := seen[key]
		seen[key] = true
		return twice
	})
}

// pick finds what is wished where changes are to be.
func (c contents) pick(changes ...[]item) []item {
	var out []item
	for _, list := range changes {
		for _, i := range list {
			if e, ok := c[i.set][i.key()]; ok {
				out = append(out, item{i.set, e})
			}
		}
	}
	return out
}

// carryOut changes the tables. Old elements go first: one can't be changed, only
// replaced.
func (f *Firewall) carryOut(ctx context.Context, old, add []item) error {
	switch {
	case f.wished.empty():
		return f.remove()
	case !f.present:
		return f.setAll(ctx)
	}
	if err := errors.Join(f.elements(old, f.conn.SetDeleteElements), f.elements(add, f.conn.SetAddElements)); err != nil {
		return err
	}
	err := f.conn.Flush()
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EEXIST) {
		return f.setAll(ctx) // somebody has changed our tables
	}
	return wrap(err)
}

// elements queues elements, set by set in pieces that fit into one attribute.
func (f *Firewall) elements(items []item, queue func(*nftables.Set, []nftables.SetElement) error) error {
	const most = 256 // elements of at most 120 bytes in an attribute of 64 KiB
	bySet := map[string][]nftables.SetElement{}
	for _, i := range items {
		bySet[i.set] = append(bySet[i.set], i.elem)
	}
	for _, name := range slices.Sorted(maps.Keys(bySet)) {
		for part := range slices.Chunk(bySet[name], most) {
			if err := queue(f.layout.sets[name], part); err != nil {
				return fmt.Errorf("nftables: set %s: %w", name, err)
			}
		}
	}
	return nil
}

// setAll sets tables, chains, rules and elements in one transaction. Tables that an
// older version has laid out otherwise are made anew in it, unless that would lose
// the administrator's rules.
func (f *Firewall) setAll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := f.queueAll()
	if err == nil {
		err = f.conn.Flush()
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY) {
		err = f.anew(err)
	}
	if err != nil {
		return wrap(err)
	}
	f.present = true
	return nil
}

// anew removes the tables and sets everything, in one transaction.
func (f *Firewall) anew(why error) error {
	rules, err := f.userRules()
	if err != nil {
		return errors.Join(why, err)
	}
	if len(rules) > 0 {
		return fmt.Errorf("tables %q aren't as this version lays them out, and chain %s holds rules; save and delete them: %w",
			f.config.Table, UserChain, why)
	}
	for _, t := range []*nftables.Table{f.layout.inet, f.layout.bridge} {
		f.conn.AddTable(t) // or there would be nothing to delete
		f.conn.DelTable(t)
	}
	if err := f.queueAll(); err != nil {
		return err
	}
	return f.conn.Flush()
}

func (f *Firewall) queueAll() error {
	if err := f.layout.queue(f.conn); err != nil {
		return err
	}
	var all []item
	for name, set := range f.wished {
		for _, e := range set {
			all = append(all, item{name, e})
		}
	}
	return f.elements(all, f.conn.SetAddElements)
}

// userRules are the administrator's.
func (f *Firewall) userRules() ([]*nftables.Rule, error) {
	rules, err := f.conn.GetRules(f.layout.inet, &nftables.Chain{Name: UserChain, Table: f.layout.inet})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return rules, err
}

// remove removes the tables. Rules of the administrator keep theirs.
func (f *Firewall) remove() error {
	f.present = false
	f.wished = contents{}
	rules, err := f.userRules()
	if err != nil {
		return wrap(err)
	}
	if len(rules) > 0 {
		if err := f.layout.queue(f.conn); err != nil {
			return err
		}
		return wrap(f.conn.Flush())
	}
	for _, t := range []*nftables.Table{f.layout.inet, f.layout.bridge} {
		f.conn.DelTable(t)
		if err := f.conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			return wrap(err)
		}
	}
	return nil
}

// Reconcile sets everything again if the tables are not as wished, and reports
// whether it had to.
func (f *Firewall) Reconcile(ctx context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wished.empty() || f.intact() {
		return false, nil
	}
	return true, f.setAll(ctx)
}

// intact compares what is there. Rules are known by their comments: they never
// change, so one is there or isn't.
func (f *Firewall) intact() bool {
	for _, c := range f.layout.chains {
		rules, err := f.conn.GetRules(c.chain.Table, c.chain)
		if err != nil || c.chain.Name != UserChain && len(rules) != len(c.rules) {
			return false
		}
		for i, r := range c.rules {
			if string(rules[i].UserData) != string(r.UserData) {
				return false
			}
		}
	}
	for name, set := range f.layout.sets {
		elements, err := f.conn.GetSetElements(set)
		if err != nil || len(elements) != len(f.wished[name]) {
			return false
		}
		for _, e := range elements {
			if _, ok := f.wished[name][string(e.Key)]; !ok {
				return false
			}
		}
	}
	return true
}

// wrap gives the kernel's errors a class.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("nftables: the kernel lacks a part: %w: %w", err, errdefs.ErrNotImplemented)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("nftables: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("nftables: %w", err)
}

// protocolNumber is the protocol's in the IP header.
func protocolNumber(p network.Protocol) (byte, error) {
	switch network.Protocol(strings.ToLower(string(p))) {
	case network.TCP:
		return unix.IPPROTO_TCP, nil
	case network.UDP:
		return unix.IPPROTO_UDP, nil
	case network.SCTP:
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("protocol %q: %w", p, errdefs.ErrInvalidArgument)
}
