package config

import (
	"reflect"
	"strings"
	"sync"
)

// field is one key of a config struct.
type field struct {
	key   string
	index []int
	owner reflect.Type // the struct that has the field, for its doc comment
	name  string       // the Go name
	typ   reflect.Type
	// hidden keys are read, and not shown in new files.
	hidden bool
}

type fieldSet struct {
	list  []field // in the struct's order
	byKey map[string]field
	keys  []string
}

var fieldCache sync.Map // reflect.Type to *fieldSet

// fieldsOf lists the keys of a config struct: the exported fields, by their
// toml tag or their name in snake case, those of embedded structs among them.
// The tag "-" leaves a field out; the option "hidden" keeps its key out of new
// files.
func fieldsOf(t reflect.Type) *fieldSet {
	if fs, ok := fieldCache.Load(t); ok {
		return fs.(*fieldSet)
	}
	fs := &fieldSet{byKey: map[string]field{}}
	collect(t, nil, fs)
	for _, f := range fs.list {
		fs.byKey[f.key] = f
		fs.keys = append(fs.keys, f.key)
	}
	fieldCache.Store(t, fs)
	return fs
}

func collect(t reflect.Type, index []int, fs *fieldSet) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(append([]int(nil), index...), i)
		key, option, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if f.Anonymous && key == "" && f.Type.Kind() == reflect.Struct {
			collect(f.Type, at, fs)
			continue
		}
		if !f.IsExported() || key == "-" {
			continue
		}
		fs.list = append(fs.list, field{
			key: Key(f), index: at, owner: t, name: f.Name, typ: f.Type, hidden: option == "hidden",
		})
	}
}

// Key is the name of a struct's field in a config file.
func Key(f reflect.StructField) string {
	if key, _, _ := strings.Cut(f.Tag.Get("toml"), ","); key != "" {
		return key
	}
	return snake(f.Name)
}

// snake turns MaxHTTPBytes into max_http_bytes.
func snake(name string) string {
	upper := func(i int) bool { return name[i] >= 'A' && name[i] <= 'Z' }
	lower := func(i int) bool { return i < len(name) && name[i] >= 'a' && name[i] <= 'z' }
	var b strings.Builder
	for i := range len(name) {
		if upper(i) && i > 0 && (!upper(i-1) || lower(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
}
