// Package graph describes a daemon's parts and what is wired to what, and draws
// it as a table, a tree, DOT or SVG.
//
// A [Graph] is plain data that travels over the wire; drawing is pure and safe
// for concurrent use.
package graph

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Kinds of an [Edge].
const (
	// One: exactly one provider of a role is needed.
	One = "one"
	// Named: a certain provider is needed.
	Named = "named"
	// Optional: the provider is used if it works.
	Optional = "optional"
	// All: all working providers of a role are used.
	All = "all"
	// After: only the order matters.
	After = "after"
)

// Status of a [Node].
type Status string

// The states of a provider.
const (
	// Planned: checked, not started yet.
	Planned Status = "planned"
	// Starting: being built.
	Starting Status = "starting"
	// OK: works.
	OK Status = "ok"
	// Skipped: found out that it can't work here, which is no failure.
	Skipped Status = "skipped"
	// Failed: could not be built, or something it needs couldn't.
	Failed Status = "failed"
	// Off: turned off, by disabled_plugins or by itself.
	Off Status = "off"
	// Closed: has ended.
	Closed Status = "closed"
)

// Platform is what a provider works for.
type Platform struct {
	OS, Architecture, Variant string
}

// Node is one provider.
type Node struct {
	// ID is the visible name: kind, dot, name.
	ID string
	// Kind is the role's name, Name the provider's within it.
	Kind, Name string
	// Doc says what the role is for.
	Doc string
	// Type is the Go type of the provider's value.
	Type string
	// Status tells whether it works, Why what keeps it from working.
	Status Status
	Why    string
	// Required providers keep the daemon from starting if they fail.
	Required bool
	// Proxy providers run as programs of their own.
	Proxy bool
	// Live providers take a new config without a restart.
	Live bool
	// Took is how long building took.
	Took time.Duration
	// Capabilities, Exports and Platforms are what introspection shows.
	Capabilities []string
	Exports      map[string]string
	Platforms    []Platform
}

// Edge is one dependency.
type Edge struct {
	// From needs To.
	From, To string
	// Need is one of One, Named, Optional, All and After.
	Need string
	// Used is false for candidates that were passed over, such as a second
	// snapshotter where one was needed.
	Used bool
}

// Graph is all providers and their dependencies.
type Graph struct {
	Nodes []Node
	Edges []Edge
}

// Sort orders nodes by ID and edges by their ends, so that the same graph
// always looks the same.
func (g *Graph) Sort() {
	slices.SortFunc(g.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(g.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Need, b.Need))
	})
}

// Node returns the node of that ID, nil if there is none.
func (g *Graph) Node(id string) *Node {
	for i := range g.Nodes {
		if g.Nodes[i].ID == id {
			return &g.Nodes[i]
		}
	}
	return nil
}

// Short is an ID without the prefix that most share: snapshotter.v1.overlayfs.
func Short(id string) string {
	for _, prefix := range []string{"io.containerd.", "io.orlop."} {
		if rest, ok := strings.CutPrefix(id, prefix); ok {
			return rest
		}
	}
	return id
}
