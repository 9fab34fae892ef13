package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/orlop/orlop/internal/suggest"
)

// Report collects what decoding finds.
type Report struct {
	// Problems keep the daemon from starting; Warnings don't.
	Problems, Warnings Problems
}

// Validator is implemented by config structs that check themselves. An error
// that starts with a key's name ("address: …") is reported at that key; errors
// joined by [errors.Join] are reported one by one.
type Validator interface{ Validate() error }

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
	timeType        = reflect.TypeFor[time.Time]()
)

// Decode fills the struct that into points to from the table n, over the values
// it has; n may be nil. The path names the table in messages. All mistakes are
// added to r: unknown keys (a warning if the file is a migrated one), values of
// the wrong type, and what Validate finds.
func Decode(n *Node, into any, path string, r *Report) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: Decode into %T, which is no pointer to a struct", into))
	}
	d := decoder{report: r}
	before := len(r.Problems)
	if n != nil {
		d.value(n, v.Elem(), path)
	}
	if len(r.Problems) == before {
		d.validate(n, v.Elem(), path)
	}
}

type decoder struct{ report *Report }

func (d *decoder) wrong(n *Node, path, want string) {
	have := n.kind()
	d.report.Problems.Add(n.Pos, "%s: want %s, have %s", path, want, have)
}

// value decodes n into v, which is settable.
func (d *decoder) value(n *Node, v reflect.Value, path string) {
	if v.Type() != timeType && reflect.PointerTo(v.Type()).Implements(textUnmarshaler) {
		d.text(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.table(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Interface:
		v.Set(reflect.ValueOf(n.plain()))
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) text(n *Node, v reflect.Value, path string) {
	s, ok := n.Value.(string)
	if !ok {
		d.wrong(n, path, "a string")
		return
	}
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
		d.report.Problems.Add(n.Pos, "%s: %v", path, err)
	}
}

func (d *decoder) table(n *Node, v reflect.Value, path string) {
	if v.Type() == timeType {
		t, ok := n.Value.(time.Time)
		if !ok {
			d.wrong(n, path, "a date and time")
			return
		}
		v.Set(reflect.ValueOf(t))
		return
	}
	if n.Table == nil {
		d.wrong(n, path, "a table")
		return
	}
	fields := fieldsOf(v.Type())
	for _, key := range n.Keys() {
		sub := n.Table[key]
		f, ok := fields.byKey[key]
		if !ok {
			d.unknown(sub, path, key, fields)
			continue
		}
		d.value(sub, v.FieldByIndex(f.index), dotted(path, key))
	}
}

func (d *decoder) unknown(n *Node, path, key string, fields *fieldSet) {
	where := &d.report.Problems
	if n.foreign {
		where = &d.report.Warnings
	}
	hint := suggest.Closest(key, fields.keys)
	if path == "" {
		where.AddHint(n.Pos, hint, "unknown key %s", key)
		return
	}
	where.AddHint(n.Pos, hint, "unknown key %s in %s", key, path)
}

func (d *decoder) mapping(n *Node, v reflect.Value, path string) {
	if n.Table == nil {
		d.wrong(n, path, "a table")
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Table))
	if !v.IsNil() {
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), it.Value())
		}
	}
	for _, key := range n.Keys() {
		k := reflect.ValueOf(key).Convert(v.Type().Key())
		e := reflect.New(v.Type().Elem()).Elem()
		if have := out.MapIndex(k); have.IsValid() && e.Kind() == reflect.Struct {
			e.Set(have)
		}
		d.value(n.Table[key], e, dotted(path, key))
		out.SetMapIndex(k, e)
	}
	v.Set(out)
}

func (d *decoder) list(n *Node, v reflect.Value, path string) {
	if n.List == nil {
		d.wrong(n, path, "a list")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.List), len(n.List))
	for i, sub := range n.List {
		d.value(sub, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (d *decoder) scalar(n *Node, v reflect.Value, path string) {
	if v.Type() == durationType {
		d.duration(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.String:
		if s, ok := n.Value.(string); ok {
			v.SetString(s)
			return
		}
		d.wrong(n, path, "a string")
	case reflect.Bool:
		if b, ok := n.Value.(bool); ok {
			v.SetBool(b)
			return
		}
		d.wrong(n, path, "a boolean")
	case reflect.Float32, reflect.Float64:
		d.float(n, v, path)
	default:
		d.integer(n, v, path)
	}
}

func (d *decoder) float(n *Node, v reflect.Value, path string) {
	switch x := n.Value.(type) {
	case float64:
		v.SetFloat(x)
	case int64:
		v.SetFloat(float64(x))
	default:
		d.wrong(n, path, "a number")
	}
}

func (d *decoder) integer(n *Node, v reflect.Value, path string) {
	x, ok := n.Value.(int64)
	if !ok {
		d.wrong(n, path, "an integer")
		return
	}
	switch {
	case v.CanInt() && !v.OverflowInt(x):
		v.SetInt(x)
	case v.CanUint() && x >= 0 && !v.OverflowUint(uint64(x)):
		v.SetUint(uint64(x))
	case v.CanInt() || v.CanUint():
		d.report.Problems.Add(n.Pos, "%s: %d is out of range", path, x)
	default:
		panic(fmt.Sprintf("config: %s has type %s, which no config value fits", path, v.Type()))
	}
}

func (d *decoder) duration(n *Node, v reflect.Value, path string) {
	s, ok := n.Value.(string)
	if !ok {
		d.wrong(n, path, `a duration such as "10s"`)
		return
	}
	t, err := time.ParseDuration(s)
	if err != nil {
		d.report.Problems.Add(n.Pos, "%s: %q is no duration, such as \"10s\" or \"1h30m\"", path, s)
		return
	}
	v.SetInt(int64(t))
}

// validate asks v, and the structs within it, to check themselves.
func (d *decoder) validate(n *Node, v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()).list {
		sub := v.FieldByIndex(f.index)
		if sub.Kind() == reflect.Struct && sub.Type() != timeType {
			d.validate(n.Get(f.key), sub, dotted(path, f.key))
		}
	}
	check, ok := v.Addr().Interface().(Validator)
	if !ok {
		return
	}
	for _, err := range flatten(check.Validate()) {
		at := blame(n, v, err)
		if path == "" {
			d.report.Problems.Add(at, "%v", err)
			continue
		}
		d.report.Problems.Add(at, "%s: %v", path, err)
	}
}

// blame finds the key that an error's first word names, else the table.
func blame(n *Node, v reflect.Value, err error) Pos {
	if n == nil {
		return Pos{}
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	word = strings.TrimSuffix(word, ":")
	if _, ok := fieldsOf(v.Type()).byKey[word]; ok {
		return n.Get(word).posOr(n.Pos)
	}
	return n.Pos
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) && many.(error).Error() == err.Error() {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

func dotted(path, key string) string {
	if strings.ContainsAny(key, ". /\"") {
		key = fmt.Sprintf("%q", key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
