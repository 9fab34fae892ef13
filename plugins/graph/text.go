package graph

import (
	"fmt"
	"slices"
	"strings"
)

// Working is the graph without providers that don't run and without candidates
// that were passed over.
func (g Graph) Working() Graph {
	var out Graph
	for _, n := range g.Nodes {
		if n.fine() {
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, e := range g.Edges {
		if e.Used && out.Node(e.From) != nil && out.Node(e.To) != nil {
			out.Edges = append(out.Edges, e)
		}
	}
	return out
}

// needs are the edges from a node, in order.
func (g *Graph) needs(id string) []Edge {
	var out []Edge
	for _, e := range g.Edges {
		if e.From == id {
			out = append(out, e)
		}
	}
	return out
}

// Text lists the graph, a provider a line with what it needs.
func (g Graph) Text() string {
	var b strings.Builder
	for _, n := range g.Nodes {
		b.WriteString(n.label())
		var list []string
		for _, e := range g.needs(n.ID) {
			list = append(list, e.label())
		}
		if len(list) > 0 {
			fmt.Fprintf(&b, " <- %s", strings.Join(list, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// fine reports whether nothing keeps the node from working.
func (n *Node) fine() bool { return n.Status == OK || n.Status == Planned || n.Status == "" }

// label is a node's short name, and its state if it isn't ok.
func (n *Node) label() string {
	if n.fine() {
		return Short(n.ID)
	}
	text := fmt.Sprintf("%s [%s", Short(n.ID), n.Status)
	if n.Why != "" {
		why, _, _ := strings.Cut(n.Why, "\n")
		text += ": " + why
	}
	return text + "]"
}

// label is the other end of an edge, and what is special about it.
func (e *Edge) label() string {
	var marks []string
	if e.Need != One && e.Need != Named {
		marks = append(marks, e.Need)
	}
	if !e.Used {
		marks = append(marks, "not used")
	}
	if len(marks) == 0 {
		return Short(e.To)
	}
	return fmt.Sprintf("%s (%s)", Short(e.To), strings.Join(marks, ", "))
}

// Tree shows each of the providers, or those that nobody needs, with what it
// needs below it. What was shown before ends in "…".
func (g Graph) Tree(ids ...string) string {
	if len(ids) == 0 {
		ids = g.roots()
	}
	var b strings.Builder
	shown := map[string]bool{}
	for _, id := range ids {
		if n := g.Node(id); n != nil {
			b.WriteString(n.label() + "\n")
			g.branch(&b, id, "", shown)
		}
	}
	return b.String()
}

// roots are the nodes that no other one needs; those of a cycle come last.
func (g *Graph) roots() []string {
	needed := map[string]bool{}
	for _, e := range g.Edges {
		needed[e.To] = true
	}
	var out []string
	for _, n := range g.Nodes {
		if !needed[n.ID] {
			out = append(out, n.ID)
		}
	}
	return out
}

func (g *Graph) branch(b *strings.Builder, id, indent string, shown map[string]bool) {
	if shown[id] {
		return
	}
	shown[id] = true
	list := slices.DeleteFunc(g.needs(id), func(e Edge) bool { return e.Need == After })
	for i, e := range list {
		fork, below := "├─ ", "│  "
		if i == len(list)-1 {
			fork, below = "└─ ", "   "
		}
		label := e.label()
		if n := g.Node(e.To); n != nil && !n.fine() {
			label = n.label()
		}
		again := shown[e.To] && len(g.needs(e.To)) > 0
		if again {
			label += " …"
		}
		b.WriteString(indent + fork + label + "\n")
		if !again {
			g.branch(b, e.To, indent+below, shown)
		}
	}
}
