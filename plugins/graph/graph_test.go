package graph

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// daemon is a small daemon with everything a drawing may show.
func daemon() Graph {
	g := Graph{
		Nodes: []Node{
			{ID: "io.containerd.content.v1.content", Status: OK, Required: true, Doc: "keeps blobs"},
			{ID: "io.containerd.snapshotter.v1.erofs", Status: Skipped, Why: "skip plugin: the kernel has no EROFS"},
			{ID: "io.containerd.snapshotter.v1.overlayfs", Status: OK},
			{ID: "io.containerd.metadata.v1.bolt", Status: OK, Required: true},
			{ID: "io.containerd.grpc.v1.images", Status: OK},
			{ID: "io.containerd.grpc.v1.tasks", Status: Failed, Why: "no runtime\nand more \"quoted\" <lines>"},
			{ID: "io.containerd.server.v1.grpc", Status: OK},
			{ID: "io.orlop.dns.v1.embedded", Status: Off, Why: "no address"},
		},
		Edges: []Edge{
			{"io.containerd.metadata.v1.bolt", "io.containerd.content.v1.content", One, true},
			{"io.containerd.metadata.v1.bolt", "io.containerd.snapshotter.v1.erofs", All, false},
			{"io.containerd.metadata.v1.bolt", "io.containerd.snapshotter.v1.overlayfs", All, true},
			{"io.containerd.grpc.v1.images", "io.containerd.metadata.v1.bolt", One, true},
			{"io.containerd.grpc.v1.tasks", "io.containerd.metadata.v1.bolt", One, true},
			{"io.containerd.grpc.v1.tasks", "io.orlop.dns.v1.embedded", Optional, false},
			{"io.containerd.server.v1.grpc", "io.containerd.grpc.v1.images", All, true},
			{"io.containerd.server.v1.grpc", "io.containerd.grpc.v1.tasks", All, false},
			{"io.containerd.server.v1.grpc", "io.containerd.content.v1.content", After, true},
		},
	}
	g.Sort()
	return g
}

func TestDrawings(t *testing.T) {
	g := daemon()
	for file, got := range map[string]string{
		"all.txt": g.Text(), "tree.txt": g.Tree(), "tree-images.txt": g.Tree("io.containerd.grpc.v1.images"),
		"working.txt": g.Working().Text(), "all.dot": g.DOT(), "all.svg": g.SVG(),
	} {
		file = filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; with -update it would be:\n%s", file, got)
		}
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
}

func TestSVGIsXML(t *testing.T) {
	wellFormed(t, daemon().SVG())
	wellFormed(t, Graph{}.SVG())
	wellFormed(t, Graph{Nodes: []Node{{ID: "a<&>\"'", Why: "\x00"}}, Edges: []Edge{{From: "a<&>\"'", To: "gone"}}}.SVG())
}

// TestLayout holds what makes a drawing readable: no two boxes overlap, and
// what is needed stands right of what needs it.
func TestLayout(t *testing.T) {
	var big Graph
	for i := range 60 {
		big.Nodes = append(big.Nodes, Node{ID: fmt.Sprintf("n%02d", i)})
		for _, j := range []int{i / 2, i / 3, i - 1} {
			if i > 0 && j < i {
				big.Edges = append(big.Edges, Edge{From: fmt.Sprintf("n%02d", i), To: fmt.Sprintf("n%02d", j), Need: One, Used: true})
			}
		}
	}
	for _, g := range []Graph{daemon(), big} {
		boxes := g.layout()
		for _, e := range g.Edges {
			if from, to := boxes[e.From], boxes[e.To]; from.x+from.w >= to.x {
				t.Errorf("%s at %d..%d needs %s at %d", e.From, from.x, from.x+from.w, e.To, to.x)
			}
		}
		for i, m := range g.Nodes {
			for _, n := range g.Nodes[i+1:] {
				a, b := boxes[m.ID], boxes[n.ID]
				if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+boxHeight && b.y < a.y+boxHeight {
					t.Errorf("%s and %s overlap", m.ID, n.ID)
				}
			}
		}
	}
}

func TestCyclesEnd(t *testing.T) {
	g := Graph{Nodes: []Node{{ID: "a"}, {ID: "b"}, {ID: "c"}}, Edges: []Edge{{From: "a", To: "b", Need: One}, {From: "b", To: "a", Need: One}, {From: "c", To: "c", Need: One}}}
	wellFormed(t, g.SVG())
	if got := g.Tree("a"); got != "a\n└─ b (not used)\n   └─ a (not used) …\n" {
		t.Errorf("tree %q", got)
	}
}
