package config

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Node is a value of a config file that knows where it was written. Exactly one
// of Table, List and Value is set.
type Node struct {
	// Pos is where the key, or the list's element, stands.
	Pos Pos
	// Table holds the entries of a table by key.
	Table map[string]*Node
	// List holds the elements of an array; empty arrays are not nil.
	List []*Node
	// Value is a string, int64, float64, bool, or one of TOML's dates.
	Value any
	// foreign marks values of a file that was migrated from another version:
	// keys that are not known there only warn.
	foreign bool
}

// NewTable returns an empty table.
func NewTable(pos Pos) *Node { return &Node{Pos: pos, Table: map[string]*Node{}} }

// Get returns the node at the path of keys, nil if there is none.
func (n *Node) Get(keys ...string) *Node {
	for _, k := range keys {
		if n == nil {
			return nil
		}
		n = n.Table[k]
	}
	return n
}

// Keys returns a table's keys in order.
func (n *Node) Keys() []string {
	if n == nil {
		return nil
	}
	keys := make([]string, 0, len(n.Table))
	for k := range n.Table {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// table returns the table under key, made if it is missing or not a table.
func (n *Node) table(key string, pos Pos) *Node {
	if sub := n.Table[key]; sub != nil && sub.Table != nil {
		return sub
	}
	sub := NewTable(pos)
	sub.foreign = n.foreign
	n.Table[key] = sub
	return sub
}

// kind names what the node holds, for messages.
func (n *Node) kind() string {
	switch {
	case n.Table != nil:
		return "a table"
	case n.List != nil:
		return "a list"
	}
	switch n.Value.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	}
	return "a date"
}

// plain returns the node as maps, slices and scalars.
func (n *Node) plain() any {
	switch {
	case n.Table != nil:
		m := make(map[string]any, len(n.Table))
		for k, v := range n.Table {
			m[k] = v.plain()
		}
		return m
	case n.List != nil:
		l := make([]any, len(n.List))
		for i, v := range n.List {
			l[i] = v.plain()
		}
		return l
	}
	return n.Value
}

// merge lays src over n: tables entry by entry, lists by appending what is not
// there yet, everything else by replacing.
func (n *Node) merge(src *Node) {
	for key, v := range src.Table {
		have := n.Table[key]
		switch {
		case have != nil && have.Table != nil && v.Table != nil:
			have.merge(v)
			have.Pos, have.foreign = v.Pos, v.foreign
		case have != nil && have.List != nil && v.List != nil:
			have.appendNew(v.List)
		default:
			n.Table[key] = v
		}
	}
}

func (n *Node) appendNew(list []*Node) {
	for _, v := range list {
		same := func(have *Node) bool { return reflect.DeepEqual(have.plain(), v.plain()) }
		if !slices.ContainsFunc(n.List, same) {
			n.List = append(n.List, v)
		}
	}
}

// parse reads a TOML document. The semantic rules (no key twice, no table
// redefined) are go-toml's; a second pass over its syntax tree adds positions.
func parse(file string, data []byte) (*Node, error) {
	var doc map[string]any
	if err := toml.Unmarshal(data, &doc); err != nil {
		return nil, syntaxProblem(file, err)
	}
	l := &locator{file: file, at: map[string]Pos{}, index: map[string]int{}, lines: lineStarts(data)}
	l.p.Reset(data)
	var prefix []string
	for l.p.NextExpression() {
		prefix = l.expression(l.p.Expression(), prefix)
	}
	if err := l.p.Error(); err != nil {
		return nil, syntaxProblem(file, err)
	}
	if doc == nil {
		doc = map[string]any{}
	}
	return l.node(doc, nil), nil
}

func syntaxProblem(file string, err error) error {
	pos := Pos{File: file, Line: 1, Col: 1}
	var d *toml.DecodeError
	if errors.As(err, &d) {
		pos.Line, pos.Col = d.Position()
	}
	return Problems{{Pos: pos, Message: strings.TrimPrefix(err.Error(), "toml: ")}}
}

// locator finds the position of every value of a document.
type locator struct {
	p     unstable.Parser
	file  string
	lines []int
	at    map[string]Pos // by path
	index map[string]int // elements seen, by path of an array of tables
}

// join makes a path a map key; TOML keys can't hold NUL.
func join(path []string) string { return strings.Join(path, "\x00") }

func lineStarts(data []byte) []int {
	starts := []int{0}
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return starts
		}
		at += i + 1
		starts = append(starts, at)
	}
}

func (l *locator) pos(n *unstable.Node) Pos {
	off := int(n.Raw.Offset)
	if n.Raw.Length == 0 && len(n.Data) > 0 {
		off = l.offsetOf(n.Data)
	}
	line := sort.SearchInts(l.lines, off+1)
	return Pos{File: l.file, Line: line, Col: off - l.lines[line-1] + 1}
}

// offsetOf finds data in the document, 0 if the parser made a copy of it.
func (l *locator) offsetOf(data []byte) (off int) {
	defer func() {
		if recover() != nil {
			off = 0
		}
	}()
	return int(l.p.Range(data).Offset)
}

// expression records one top-level expression and returns the table that the
// next key-values belong to.
func (l *locator) expression(e *unstable.Node, prefix []string) []string {
	switch e.Kind {
	case unstable.Table:
		return l.header(e)
	case unstable.ArrayTable:
		path := l.header(e)
		i := l.index[join(path)]
		l.index[join(path)] = i + 1
		path = append(path, strconv.Itoa(i))
		l.at[join(path)] = l.at[join(path[:len(path)-1])]
		return path
	case unstable.KeyValue:
		l.keyValue(e, prefix)
	}
	return prefix
}

// header records the dotted key of a table and returns its path, in which an
// array of tables is followed by the index of its last element.
func (l *locator) header(e *unstable.Node) []string {
	var path []string
	for it := e.Key(); it.Next(); {
		if n := l.index[join(path)]; len(path) > 0 && n > 0 {
			path = append(path, strconv.Itoa(n-1))
		}
		path = append(path, string(it.Node().Data))
		l.at[join(path)] = l.pos(it.Node())
	}
	if n := l.index[join(path)]; n > 0 && e.Kind == unstable.Table {
		path = append(path, strconv.Itoa(n-1))
	}
	return path
}

func (l *locator) keyValue(e *unstable.Node, prefix []string) {
	path := slices.Clone(prefix)
	for it := e.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		if _, ok := l.at[join(path)]; !ok {
			l.at[join(path)] = l.pos(it.Node())
		}
	}
	l.value(e.Value(), path)
}

func (l *locator) value(v *unstable.Node, path []string) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			l.keyValue(it.Node(), path)
		}
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			at := append(slices.Clone(path), strconv.Itoa(i))
			l.at[join(at)] = l.elementPos(it.Node(), path)
			l.value(it.Node(), at)
			i++
		}
	}
}

// elementPos is where an array's element stands; elements without a range of
// their own stand where the array does.
func (l *locator) elementPos(n *unstable.Node, array []string) Pos {
	if n.Raw.Length == 0 && len(n.Data) == 0 {
		return l.at[join(array)]
	}
	return l.pos(n)
}

// node makes the tree of a decoded value.
func (l *locator) node(v any, path []string) *Node {
	n := &Node{Pos: l.at[join(path)]}
	if n.Pos.File == "" {
		n.Pos.File = l.file
	}
	switch v := v.(type) {
	case map[string]any:
		n.Table = make(map[string]*Node, len(v))
		for k, sub := range v {
			n.Table[k] = l.node(sub, append(slices.Clone(path), k))
		}
	case []any:
		n.List = make([]*Node, len(v))
		for i, sub := range v {
			n.List[i] = l.node(sub, append(slices.Clone(path), strconv.Itoa(i)))
		}
	default:
		n.Value = v
	}
	return n
}
