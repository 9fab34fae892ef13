package graph

import (
	"fmt"
	"html"
	"strings"
)

// colours of states, as fill and border.
var colours = map[Status][2]string{
	OK: {"#e6f4ea", "#2e7d32"}, Planned: {"#eef2f7", "#54657e"}, Starting: {"#fff8e1", "#b28704"},
	Skipped: {"#f3f3f3", "#8a8a8a"}, Off: {"#f3f3f3", "#8a8a8a"}, Failed: {"#fdecea", "#b3261e"}, Closed: {"#f3f3f3", "#54657e"},
}

func colour(s Status) (fill, border string) {
	c, ok := colours[s]
	if !ok {
		c = colours[Planned]
	}
	return c[0], c[1]
}

// dashed reports whether an edge is drawn broken: only order, or not used.
func (e *Edge) dashed() bool { return e.Need == After || e.Need == Optional || !e.Used }

// DOT is the graph in Graphviz's language.
func (g Graph) DOT() string {
	var b strings.Builder
	b.WriteString("digraph plugins {\n\trankdir=LR\n\tnode [shape=box style=\"rounded,filled\" fontname=\"sans-serif\"]\n")
	for _, n := range g.Nodes {
		fill, border := colour(n.Status)
		fmt.Fprintf(&b, "\t%s [label=%s fillcolor=%q color=%q tooltip=%s]\n", quote(n.ID), quote(Short(n.ID)), fill, border, quote(n.tip()))
	}
	for _, e := range g.Edges {
		style := "solid"
		if e.dashed() {
			style = "dashed"
		}
		fmt.Fprintf(&b, "\t%s -> %s [style=%s tooltip=%s]\n", quote(e.From), quote(e.To), style, quote(e.Need))
	}
	b.WriteString("}\n")
	return b.String()
}

// quote makes a DOT string, in which only quotes, backslashes and line ends are
// special.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", "").Replace(s) + `"`
}

// tip is what a pointer over a node shows.
func (n *Node) tip() string {
	tip := n.ID + "\n" + string(n.Status)
	for _, line := range []string{n.Why, n.Doc, n.Type} {
		if line != "" {
			tip += "\n" + line
		}
	}
	return tip
}

// escape makes text for XML, which has no place for control characters.
func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff {
			return 0xfffd
		}
		return r
	}, s))
}
