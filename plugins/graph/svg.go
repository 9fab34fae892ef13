package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Measures of the drawing in pixels. A character of the font is about 7 wide.
const (
	charWidth, boxHeight = 7, 28
	boxPad               = 12
	rowGap, columnGap    = 12, 90
	margin               = 20
	sweeps               = 8 // of ordering the boxes in their columns
)

// box is a node's place in the drawing.
type box struct {
	node          *Node
	column        int
	x, y, w       int
	order         float64
	below, beyond []*box // what it needs, what needs it
}

// SVG draws the graph: what needs others stands left of them, in columns; the
// order in a column follows the neighbours' so that few lines cross.
func (g Graph) SVG() string {
	boxes := g.layout()
	width, height := 2*margin, 2*margin
	for _, b := range boxes {
		width, height = max(width, b.x+b.w+margin), max(height, b.y+boxHeight+margin)
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	s.WriteString(`<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#6b7688"/></marker></defs>` + "\n")
	s.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	for _, e := range g.Edges {
		from, to := boxes[e.From], boxes[e.To]
		if from != nil && to != nil {
			s.WriteString(line(from, to, e))
		}
	}
	for _, n := range g.Nodes {
		s.WriteString(boxes[n.ID].draw())
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// layout places all nodes.
func (g *Graph) layout() map[string]*box {
	boxes := make(map[string]*box, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		boxes[n.ID] = &box{node: n, w: 2*boxPad + charWidth*len(Short(n.ID)), column: -1}
	}
	for _, e := range g.Edges {
		if from, to := boxes[e.From], boxes[e.To]; from != nil && to != nil && from != to {
			from.below, to.beyond = append(from.below, to), append(to.beyond, from)
		}
	}
	for _, n := range g.Nodes {
		boxes[n.ID].level(map[*box]bool{})
	}
	deepest := 0
	for _, b := range boxes {
		deepest = max(deepest, b.column)
	}
	columns := make([][]*box, deepest+1)
	for _, n := range g.Nodes {
		b := boxes[n.ID]
		// What needs most stands left.
		columns[deepest-b.column] = append(columns[deepest-b.column], b)
	}
	arrange(columns)
	place(columns)
	return boxes
}

// level is the length of the longest chain of needs from b. A cycle, which no
// planned graph has, is cut where it is met.
func (b *box) level(on map[*box]bool) int {
	if b.column >= 0 || on[b] {
		return max(b.column, 0)
	}
	on[b] = true
	deepest := -1
	for _, dep := range b.below {
		deepest = max(deepest, dep.level(on))
	}
	delete(on, b)
	b.column = deepest + 1
	return b.column
}

// arrange orders each column by the mean place of the neighbours, to and fro.
func arrange(columns [][]*box) {
	number := func(column []*box) {
		for i, b := range column {
			b.order = float64(i) - float64(len(column))/2
		}
	}
	for _, c := range columns {
		number(c)
	}
	for sweep := range sweeps {
		for i := range columns {
			c, near := columns[i], func(b *box) []*box { return b.beyond }
			if sweep%2 == 1 {
				c, near = columns[len(columns)-1-i], func(b *box) []*box { return b.below }
			}
			for _, b := range c {
				if list := near(b); len(list) > 0 {
					sum := 0.0
					for _, other := range list {
						sum += other.order
					}
					b.order = sum / float64(len(list))
				}
			}
			slices.SortStableFunc(c, func(a, b *box) int { return cmp.Compare(a.order, b.order) })
			number(c)
		}
	}
}

// place turns columns and orders into coordinates; short columns are centred.
func place(columns [][]*box) {
	tallest := 0
	for _, c := range columns {
		tallest = max(tallest, len(c))
	}
	x := margin
	for _, c := range columns {
		widest := 0
		for _, b := range c {
			widest = max(widest, b.w)
		}
		y := margin + (tallest-len(c))*(boxHeight+rowGap)/2
		for _, b := range c {
			b.x, b.y, b.w = x, y, widest
			y += boxHeight + rowGap
		}
		x += widest + columnGap
	}
}

func (b *box) draw() string {
	fill, border := colour(b.node.Status)
	width := 1
	if b.node.Required {
		width = 2
	}
	return fmt.Sprintf(`<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="5" fill="%s" stroke="%s" stroke-width="%d"/><text x="%d" y="%d">%s</text></g>`+"\n",
		escape(b.node.tip()), b.x, b.y, b.w, boxHeight, fill, border, width, b.x+boxPad, b.y+boxHeight/2+4, escape(Short(b.node.ID)))
}

// line draws an edge as a curve from the right of one box to the left of
// another.
func line(from, to *box, e Edge) string {
	dash := ""
	if e.dashed() {
		dash = ` stroke-dasharray="4 3"`
	}
	x1, y1, x2, y2 := from.x+from.w, from.y+boxHeight/2, to.x, to.y+boxHeight/2
	bend := max((x2-x1)/2, columnGap/2)
	return fmt.Sprintf(`<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="#6b7688"%s marker-end="url(#a)"><title>%s</title></path>`+"\n",
		x1, y1, x1+bend, y1, x2-bend, y2, x2, y2, dash, escape(Short(e.From)+" needs "+Short(e.To)+" ("+e.Need+")"))
}
