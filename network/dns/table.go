// Package dns answers sandboxes' questions: the names of their neighbours itself,
// the rest by the host's resolvers.
//
// A [Table] knows the endpoints of all networks. A [Resolver] listens at 127.0.0.11
// in one sandbox and sees of the table only the networks that the sandbox is
// connected to. It asks the servers that the sandbox was given through the sandbox's own
// routes, so that what it may reach is what the sandbox may reach. The host's servers it
// asks as the host does, from wherever the sandbox can't: over IPv4 for one without it, on
// the host's loopback; for a sandbox that has internal networks alone it doesn't
// (CVE-2024-29018).
//
// A resolver's sockets keep the sandbox's namespace alive until it is closed. They
// end with the daemon; the next one opens them again.
//
// A Table and Resolvers are safe for concurrent use.
package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/orlop/orlop/network"
)

// Table is what is known of all sandboxes.
type Table struct {
	mu        sync.RWMutex
	networks  map[string]*zone
	sandboxes map[string]map[string]bool // path: networks
}

// zone is one network.
type zone struct {
	name      string
	internal  bool
	endpoints map[string]*network.Endpoint
	names     map[string][]*network.Endpoint
	addresses map[netip.Addr]*network.Endpoint
}

// NewTable makes an empty table.
func NewTable() *Table {
	return &Table{networks: map[string]*zone{}, sandboxes: map[string]map[string]bool{}}
}

// Add enters an endpoint. The first of its names is what its address is called.
func (t *Table) Add(n network.Network, e network.Endpoint) {
	t.Remove(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	z := t.networks[n.ID]
	if z == nil {
		z = &zone{name: fold(n.Name), internal: n.Internal, endpoints: map[string]*network.Endpoint{},
			names: map[string][]*network.Endpoint{}, addresses: map[netip.Addr]*network.Endpoint{}}
		t.networks[n.ID] = z
	}
	e.Names = slices.Clone(e.Names)
	z.endpoints[e.ID] = &e
	for i := range e.Names {
		e.Names[i] = fold(e.Names[i])
		if !slices.Contains(z.names[e.Names[i]], &e) {
			z.names[e.Names[i]] = append(z.names[e.Names[i]], &e)
		}
	}
	for _, a := range e.Addresses {
		z.addresses[a.Addr()] = &e
	}
	if t.sandboxes[e.Sandbox] == nil {
		t.sandboxes[e.Sandbox] = map[string]bool{}
	}
	t.sandboxes[e.Sandbox][n.ID] = true
}

// Remove takes an endpoint out; one that isn't there is no error.
func (t *Table) Remove(e network.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	z := t.networks[e.Network]
	if z == nil || z.endpoints[e.ID] == nil {
		return
	}
	old := z.endpoints[e.ID]
	delete(z.endpoints, e.ID)
	for _, name := range old.Names {
		z.names[name] = slices.DeleteFunc(z.names[name], func(x *network.Endpoint) bool { return x == old })
		if len(z.names[name]) == 0 {
			delete(z.names, name)
		}
	}
	for _, a := range old.Addresses {
		if z.addresses[a.Addr()] == old {
			delete(z.addresses, a.Addr())
		}
	}
	if len(z.endpoints) == 0 {
		delete(t.networks, e.Network)
	}
	if delete(t.sandboxes[old.Sandbox], e.Network); len(t.sandboxes[old.Sandbox]) == 0 {
		delete(t.sandboxes, old.Sandbox)
	}
}

// fold makes names comparable: without the last dot and in lower case.
func fold(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Lookup finds a name as a sandbox sees it: name, or name.network. A name can be
// known and have no address.
func (t *Table) Lookup(sandbox, name string) (found []netip.Addr, known bool) {
	name = fold(name)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := range t.sandboxes[sandbox] {
		z := t.networks[id]
		endpoints := z.names[name]
		if short, ok := strings.CutSuffix(name, "."+z.name); ok && z.name != "" {
			endpoints = slices.Concat(endpoints, z.names[short])
		}
		for _, e := range endpoints {
			known = true
			for _, a := range e.Addresses {
				if !slices.Contains(found, a.Addr()) {
					found = append(found, a.Addr())
				}
			}
		}
	}
	return found, known
}

// reverse finds what an address is called by a sandbox's networks.
func (t *Table) reverse(sandbox string, a netip.Addr) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := range t.sandboxes[sandbox] {
		z := t.networks[id]
		if e := z.addresses[a]; e != nil && len(e.Names) > 0 {
			if z.name == "" {
				return e.Names[0]
			}
			return e.Names[0] + "." + z.name
		}
	}
	return ""
}

// internal tells whether a sandbox has no way out.
func (t *Table) internal(sandbox string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := range t.sandboxes[sandbox] {
		if !t.networks[id].internal {
			return false
		}
	}
	return true
}
