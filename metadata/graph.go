package metadata

import (
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/snapshotters"
)

// graph is the collector's picture of the database at one moment.
type graph struct {
	edges map[gc.Node][]gc.Node
	roots []gc.Node
	now   time.Time
	// expired leases and images are no roots, and go.
	expired []gc.Node
}

// node adds a node with its references.
func (g *graph) node(n gc.Node, labels map[string]string, refs ...gc.Node) {
	g.edges[n] = append(g.edges[n], refs...)
	labelRefs(n, labels, func(from, to gc.Node) { g.edges[from] = append(g.edges[from], to) })
	if _, ok := labels[label.GCRoot]; ok {
		g.roots = append(g.roots, n)
	}
}

// labelRefs turns the collector's labels of n into edges. Back references make
// the other node refer to n.
func labelRefs(n gc.Node, labels map[string]string, edge func(from, to gc.Node)) {
	for k, v := range labels {
		if to, ok := labelTarget(n.Namespace, k, v, "ref"); ok {
			edge(n, to)
		} else if from, ok := labelTarget(n.Namespace, k, v, "bref"); ok {
			edge(from, n)
		}
	}
}

// labelTarget reads containerd.io/gc.<sort>.<type>[.x|/x] = value.
func labelTarget(ns, key, value, sort string) (gc.Node, bool) {
	rest, ok := strings.CutPrefix(key, "containerd.io/gc."+sort+".")
	if !ok {
		return gc.Node{}, false
	}
	typ, tail := cutAny(rest, "./")
	node := gc.Node{Namespace: ns, Key: value}
	switch typ {
	case "content":
		node.Type = gc.Content
		return node, digest.Digest(value).Validate() == nil
	case "image":
		node.Type = gc.Image
	case "container":
		node.Type = gc.Container
	case "mount":
		node.Type = gc.Mount
	case "snapshot":
		name, _, _ := strings.Cut(tail, "/")
		node.Type, node.Key = gc.Snapshot, name+"/"+value
		return node, name != ""
	default:
		return node, false
	}
	return node, true
}

func cutAny(s, chars string) (before, after string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// expired reports whether labels set an end that has passed.
func expired(labels map[string]string, now time.Time) bool {
	at, err := time.Parse(time.RFC3339, labels[label.GCExpire])
	return err == nil && now.After(at)
}

// scan draws the whole graph.
func (db *DB) scan(t *tx, now time.Time) (*graph, error) {
	g := &graph{edges: map[gc.Node][]gc.Node{}, now: now}
	for _, ns := range t.namespaces() {
		for _, step := range []func(*tx, string) error{g.images, g.containers, g.sandboxes, g.content, g.ingests, g.leases, g.mounts} {
			if err := step(t, ns); err != nil {
				return nil, err
			}
		}
		for name := range db.back.Drivers {
			s, _ := db.snapshots(name)
			if err := g.snapshots(t, ns, s); err != nil {
				return nil, err
			}
		}
	}
	return g, nil
}

func (g *graph) images(t *tx, ns string) error {
	return imageTable.each(t, ns, func(key string, img image.Image) error {
		n := gc.Node{Type: gc.Image, Namespace: ns, Key: key}
		g.node(n, img.Labels, contentNode(ns, img.Target.Digest))
		if expired(img.Labels, g.now) {
			g.expired = append(g.expired, n)
		} else {
			g.roots = append(g.roots, n)
		}
		return nil
	})
}

func (g *graph) containers(t *tx, ns string) error {
	return containerTable.each(t, ns, func(key string, c containerRecord) error {
		n := gc.Node{Type: gc.Container, Namespace: ns, Key: key}
		g.node(n, c.Labels, containerRefs(ns, c)...)
		g.roots = append(g.roots, n)
		return nil
	})
}

func containerRefs(ns string, c containerRecord) []gc.Node {
	if c.SnapshotKey == "" {
		return nil
	}
	return []gc.Node{{Type: gc.Snapshot, Namespace: ns, Key: c.Snapshotter + "/" + c.SnapshotKey}}
}

func (g *graph) sandboxes(t *tx, ns string) error {
	return sandboxTable.each(t, ns, func(key string, s sandboxRecord) error {
		n := gc.Node{Type: gc.Sandbox, Namespace: ns, Key: key}
		g.node(n, s.Labels)
		g.roots = append(g.roots, n)
		return nil
	})
}

func (g *graph) content(t *tx, ns string) error {
	return contentTable.each(t, ns, func(_ string, info content.Info) error {
		g.node(contentNode(ns, info.Digest), info.Labels)
		return nil
	})
}

func (g *graph) ingests(t *tx, ns string) error {
	return ingestTable.each(t, ns, func(key string, rec ingestRecord) error {
		n := gc.Node{Type: gc.Ingest, Namespace: ns, Key: key}
		g.node(n, nil, ingestRefs(ns, rec)...)
		if g.now.Before(rec.Expires) {
			g.roots = append(g.roots, n)
		}
		return nil
	})
}

func ingestRefs(ns string, rec ingestRecord) []gc.Node {
	if rec.Expected == "" {
		return nil
	}
	return []gc.Node{contentNode(ns, rec.Expected)}
}

func (g *graph) leases(t *tx, ns string) error {
	return leaseTable.each(t, ns, func(key string, l lease.Lease) error {
		n := gc.Node{Type: gc.Lease, Namespace: ns, Key: key}
		refs, err := leaseRefs(t, ns, l)
		if err != nil {
			return err
		}
		g.node(n, l.Labels, refs...)
		if expired(l.Labels, g.now) {
			g.expired = append(g.expired, n)
		} else {
			g.roots = append(g.roots, n)
		}
		return nil
	})
}

func leaseRefs(t *tx, ns string, l lease.Lease) ([]gc.Node, error) {
	_, flat := l.Labels[label.GCFlat]
	var refs []gc.Node
	err := eachResource(t, ns, l.ID, func(_ string, r lease.Resource) error {
		n := gc.Node{Namespace: ns, Key: r.ID, Flat: flat}
		switch r.Type {
		case "content":
			n.Type = gc.Content
		case "ingests":
			n.Type = gc.Ingest
		case "images":
			n.Type = gc.Image
		case "mounts":
			n.Type = gc.Mount
		default:
			n.Type, n.Key = gc.Snapshot, strings.TrimPrefix(r.Type, "snapshots/")+"/"+r.ID
		}
		refs = append(refs, n)
		return nil
	})
	return refs, err
}

func (g *graph) snapshots(t *tx, ns string, s *snapshots) error {
	return s.table.each(t, ns, func(key string, rec snapshotRecord) error {
		g.node(s.node(ns, key), rec.Labels, s.refs(ns, rec.Info)...)
		return nil
	})
}

func (s *snapshots) refs(ns string, info snapshotters.Info) []gc.Node {
	if info.Parent == "" {
		return nil
	}
	return []gc.Node{s.node(ns, info.Parent)}
}
