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
}

type fieldSet struct {
	list  []field // in the struct's order
	byKey map[string]field
	keys  []string
}

var fieldCache sync.Map // reflect.Type to *fieldSet

// fieldsOf lists the keys of a config struct: the exported fields, by their
// toml tag or their name in lower case, those of embedded structs among them.
// The tag "-" hides a field.
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
		key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		if f.Anonymous && key == "" && f.Type.Kind() == reflect.Struct {
			collect(f.Type, at, fs)
			continue
		}
		if !f.IsExported() || key == "-" {
			continue
		}
		if key == "" {
			key = strings.ToLower(f.Name)
		}
		fs.list = append(fs.list, field{key: key, index: at, owner: t, name: f.Name, typ: f.Type})
	}
}

// Key is the name of a struct's field in a config file.
func Key(f reflect.StructField) string {
	if key, _, _ := strings.Cut(f.Tag.Get("toml"), ","); key != "" {
		return key
	}
	return strings.ToLower(f.Name)
}
