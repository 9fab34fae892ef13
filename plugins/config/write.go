package config

import (
	_ "embed"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/orlop/orlop/internal/confdoc"
)

//go:generate go run ../../internal/confdoc/gen -root ../.. -out docs.txt
//go:generate sh -c "go run ../../cmd/orlopd config default >example.tmp && mv example.tmp ../../config.toml.example"

//go:embed docs.txt
var docsText string

// docs are the doc comments of the module's config structs.
var docs = sync.OnceValue(func() confdoc.Docs { return confdoc.Parse(docsText) })

// lineWidth is where comments are folded.
const lineWidth = 88

// Section is one plugin's part of a config file.
type Section struct {
	// ID is the plugin's name.
	ID string
	// Doc says what it is, in a phrase, or is empty.
	Doc string
	// Notes are more lines of comment, such as "off: …".
	Notes []string
	// Config points to its struct, or is nil.
	Config any
}

// Write makes a config file of the daemon's own settings and the plugins'
// structs. With comments each key has its doc comment above it, and tables that
// are empty are shown as an example; without, empty tables are left out.
func Write(s Settings, sections []Section, comments bool) string {
	w := &writer{comments: comments}
	if comments {
		w.comment(0, "This is the config of orlopd with all its keys at their defaults. A key may be left out.")
		w.line(0, "")
	}
	w.table(reflect.ValueOf(s), nil, 0)
	for _, sec := range sections {
		if sec.Config == nil && !comments {
			continue
		}
		w.section(sec)
	}
	return strings.TrimLeft(w.b.String(), "\n")
}

type writer struct {
	b        strings.Builder
	comments bool
}

func (w *writer) line(indent int, text string) {
	if text != "" {
		w.b.WriteString(strings.Repeat("  ", indent) + text)
	}
	w.b.WriteByte('\n')
}

// comment writes text as comment lines, folded.
func (w *writer) comment(indent int, text string) {
	if !w.comments {
		return
	}
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		line := "#"
		for word := range strings.FieldsSeq(paragraph) {
			if len(line)+1+len(word) > lineWidth-2*indent && line != "#" {
				w.line(indent, line)
				line = "#"
			}
			line += " " + word
		}
		w.line(indent, line)
	}
}

func (w *writer) section(s Section) {
	w.line(0, "")
	if s.Doc != "" {
		w.comment(0, s.ID+" "+s.Doc+".")
	}
	for _, n := range s.Notes {
		w.comment(0, n)
	}
	header := "[plugins." + strconv.Quote(s.ID) + "]"
	v := reflect.Indirect(reflect.ValueOf(s.Config))
	if s.Config == nil || len(fieldsOf(v.Type()).list) == 0 {
		w.comment(0, "It has no keys.")
		return
	}
	w.line(0, header)
	w.table(v, []string{"plugins", s.ID}, 0)
}

// table writes a struct's keys, those with a value first, then those that are
// tables themselves.
func (w *writer) table(v reflect.Value, path []string, indent int) {
	var tables []field
	for _, f := range fieldsOf(v.Type()).list {
		if f.hidden {
			continue
		}
		if isTable(f.typ) {
			tables = append(tables, f)
			continue
		}
		w.comment(indent, f.doc())
		w.line(indent, f.key+" = "+value(v.FieldByIndex(f.index)))
	}
	for _, f := range tables {
		w.subtable(f, v.FieldByIndex(f.index), append(slices.Clone(path), f.key), indent)
	}
}

// isTable reports whether a type is written with a header of its own.
func isTable(t reflect.Type) bool {
	switch {
	case isText(t), t == timeType:
		return false
	case t.Kind() == reflect.Slice:
		return t.Elem().Kind() == reflect.Struct && !isText(t.Elem())
	}
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Map
}

func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(textUnmarshaler)
}

func (w *writer) subtable(f field, v reflect.Value, path []string, indent int) {
	switch v.Kind() {
	case reflect.Struct:
		w.line(0, "")
		w.comment(indent, f.doc())
		w.line(indent, "["+header(path)+"]")
		w.table(v, path, indent+1)
	case reflect.Map:
		w.mapping(f, v, path, indent)
	case reflect.Slice:
		for i := range v.Len() {
			w.line(0, "")
			w.comment(indent, f.doc())
			w.line(indent, "[["+header(path)+"]]")
			w.table(v.Index(i), path, indent+1)
		}
	}
}

// mapping writes the entries of a map. An empty one of a plugin is written as a
// comment, with the keys that an entry has.
func (w *writer) mapping(f field, v reflect.Value, path []string, indent int) {
	structs := v.Type().Elem().Kind() == reflect.Struct && !isText(v.Type().Elem())
	if path[0] == "plugins" && len(path) == 1 {
		return // each has a section of its own
	}
	if v.Len() == 0 {
		w.example(f, v.Type().Elem(), path, indent, structs)
		return
	}
	keys := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	w.line(0, "")
	w.comment(indent, f.doc())
	if !structs {
		w.line(indent, "["+header(path)+"]")
	}
	for _, k := range keys {
		e := v.MapIndex(reflect.ValueOf(k).Convert(v.Type().Key()))
		if !structs {
			w.line(indent+1, bare(k)+" = "+value(e))
			continue
		}
		entry := append(slices.Clone(path), k)
		w.line(indent, "["+header(entry)+"]")
		w.table(e, entry, indent+1)
	}
}

// example shows in comments what a table that is empty may hold.
func (w *writer) example(f field, elem reflect.Type, path []string, indent int, structs bool) {
	if !w.comments {
		return
	}
	w.line(0, "")
	w.comment(indent, f.doc())
	if !structs {
		w.line(indent, "# ["+header(path)+"]")
		return
	}
	sub := &writer{comments: true}
	entry := append(slices.Clone(path), "name")
	sub.line(0, "["+header(entry)+"]")
	sub.table(reflect.Zero(elem), entry, 1)
	for line := range strings.SplitSeq(strings.TrimSuffix(sub.b.String(), "\n"), "\n") {
		w.line(indent, strings.TrimRight("# "+line, " "))
	}
}

// doc is a field's comment, with the Go name it starts with, if it does,
// replaced by the key.
func (f field) doc() string {
	text := docs().Of(f.owner.PkgPath(), f.owner.Name(), f.name)
	if rest, ok := strings.CutPrefix(text, f.name+" "); ok {
		text = f.key + " " + rest
	}
	return text
}

// header renders a dotted key.
func header(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = bare(p)
	}
	return strings.Join(parts, ".")
}

// bare quotes a key unless it needn't be.
func bare(key string) string {
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return quoted(key)
		}
	}
	if key == "" {
		return `""`
	}
	return key
}

// quoted is a TOML basic string.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// value renders a value on one line.
func value(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return value(reflect.Zero(v.Type().Elem()))
	case v.Kind() == reflect.Pointer, v.Kind() == reflect.Interface:
		return value(v.Elem())
	case v.Type() == durationType:
		return quoted(time.Duration(v.Int()).String())
	case v.Type() == timeType:
		return v.Interface().(time.Time).Format(time.RFC3339Nano)
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err == nil {
			return quoted(string(text))
		}
	}
	return plainValue(v)
}

func plainValue(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		return quoted(v.String())
	case reflect.Float32, reflect.Float64:
		return plainFloat(v.Float())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = value(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// plainFloat renders a float so that it reads as one again.
func plainFloat(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	switch {
	case text == "+Inf":
		return "inf"
	case text == "-Inf":
		return "-inf"
	case text == "NaN":
		return "nan"
	case !strings.ContainsAny(text, ".e"):
		return text + ".0"
	}
	return text
}
