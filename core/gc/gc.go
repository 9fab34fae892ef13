// Package gc is the collector's algorithm, free of any database: a graph of
// nodes, roots, and what is reachable from them.
package gc

import (
	"context"
	"fmt"
)

// Type is the sort of resource a node is.
type Type uint8

// The sorts of node.
const (
	Unknown Type = iota
	Content
	Snapshot
	Container
	Image
	Lease
	Ingest
	Sandbox
	Mount
)

var typeNames = [...]string{"unknown", "content", "snapshot", "container", "image", "lease", "ingest", "sandbox", "mount"}

// String names the sort.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

// Node is one resource. It is comparable, so that it can be a map key.
type Node struct {
	Type      Type
	Namespace string
	// Key is the digest, "<snapshotter>/<key>" of a snapshot, or the name.
	Key string
	// Flat, of an edge to a lease's resource, keeps the node without what it refers to.
	Flat bool
}

// Mark returns everything reachable from roots. refs calls its last argument
// for each node that the given one refers to. The order of visits is
// unspecified. A flat node keeps itself, not its references.
func Mark(ctx context.Context, roots []Node, refs func(Node, func(Node)) error) (map[Node]struct{}, error) {
	m := Marker{Seen: make(map[Node]struct{}, 2*len(roots))}
	if err := m.Add(ctx, roots, refs); err != nil {
		return nil, err
	}
	return m.Seen, nil
}

// Marker marks in steps, so that roots found later can be added.
type Marker struct {
	// Seen holds the reachable nodes, with Flat cleared.
	Seen map[Node]struct{}
	// expanded holds flat nodes apart, which a deeper reference may still expand.
	flat map[Node]struct{}
}

// pollEvery is how many nodes are visited between looks at the context.
const pollEvery = 4096

// Add marks what is reachable from roots.
func (m *Marker) Add(ctx context.Context, roots []Node, refs func(Node, func(Node)) error) error {
	stack := append([]Node(nil), roots...)
	push := func(n Node) { stack = append(stack, n) }
	for visited := 0; len(stack) > 0; visited++ {
		if visited%pollEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !m.enter(n) {
			continue
		}
		n.Flat = false
		if err := refs(n, push); err != nil {
			return err
		}
	}
	return nil
}

// enter records n and reports whether its references are still to be visited.
func (m *Marker) enter(n Node) bool {
	flat := n.Flat
	n.Flat = false
	_, seen := m.Seen[n]
	_, wasFlat := m.flat[n]
	if seen && (flat || !wasFlat) {
		return false
	}
	m.Seen[n] = struct{}{}
	if flat {
		if m.flat == nil {
			m.flat = map[Node]struct{}{}
		}
		m.flat[n] = struct{}{}
		return false
	}
	delete(m.flat, n)
	return true
}
