package config

import (
	"fmt"
	"strings"
)

// TOML writes the document as it was read, imports merged and migrated to
// [Version], without comments.
func (d *Document) TOML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version = %d\n", Version)
	writeNode(&b, d.Root, nil)
	return b.String()
}

// writeNode writes a table's plain values, then its tables.
func writeNode(b *strings.Builder, n *Node, path []string) {
	for _, key := range n.Keys() {
		sub := n.Table[key]
		if sub.Table == nil && (len(path) > 0 || key != "version" && key != "imports") {
			fmt.Fprintf(b, "%s = %s\n", bare(key), inline(sub))
		}
	}
	for _, key := range n.Keys() {
		sub := n.Table[key]
		if sub.Table == nil {
			continue
		}
		at := append(append([]string(nil), path...), key)
		if len(sub.Table) == 0 || hasValues(sub) {
			fmt.Fprintf(b, "\n[%s]\n", header(at))
		}
		writeNode(b, sub, at)
	}
}

func hasValues(n *Node) bool {
	for _, sub := range n.Table {
		if sub.Table == nil {
			return true
		}
	}
	return false
}

// inline renders a value on one line.
func inline(n *Node) string {
	switch {
	case n.Table != nil:
		var parts []string
		for _, key := range n.Keys() {
			parts = append(parts, bare(key)+" = "+inline(n.Table[key]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case n.List != nil:
		var parts []string
		for _, e := range n.List {
			parts = append(parts, inline(e))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	switch v := n.Value.(type) {
	case string:
		return quoted(v)
	case float64:
		return plainFloat(v)
	case interface{ MarshalText() ([]byte, error) }:
		if text, err := v.MarshalText(); err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(n.Value)
}

// Set puts a value over what the files say, as a command line's flag does. The
// path is that of a key; value is a string, int64, float64 or bool.
func (d *Document) Set(value any, path ...string) {
	n := d.Root
	for _, key := range path[:len(path)-1] {
		n = n.table(key, Pos{})
	}
	n.Table[path[len(path)-1]] = &Node{Value: value}
}
