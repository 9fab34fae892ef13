package dbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Header fields.
const (
	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldError       = 4
	fieldReply       = 5
	fieldDestination = 6
	fieldSignature   = 8
	lastField        = 9
)

// Property is a name with a value of any type, (sv).
type Property struct {
	// Name is the property's.
	Name string
	// Value is of a type that Signature knows.
	Value any
}

// Pair is two strings, (ss).
type Pair [2]string

// Amount is a string and a number, (st).
type Amount struct {
	// Key is what the number is about.
	Key string
	// Value is the number.
	Value uint64
}

// NoUnits is an empty a(sa(sv)).
type NoUnits struct{}

// Signature is the D-Bus type of a Go value, or empty.
func Signature(v any) string {
	switch v.(type) {
	case string:
		return "s"
	case bool:
		return "b"
	case uint32:
		return "u"
	case uint64:
		return "t"
	case []byte:
		return "ay"
	case []uint32:
		return "au"
	case []Property:
		return "a(sv)"
	case []Pair:
		return "a(ss)"
	case []Amount:
		return "a(st)"
	case NoUnits:
		return "a(sa(sv))"
	}
	return ""
}

// encoder appends values, each aligned to its size.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) u32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) u64(v uint64) {
	e.align(8)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) str(s string) {
	e.u32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) sig(s string) { e.b = append(append(append(e.b, byte(len(s))), s...), 0) }

// array writes the length in bytes of what fill appends, without the padding
// before the first element.
func (e *encoder) array(alignment int, fill func()) {
	e.u32(0)
	at := len(e.b) - 4
	e.align(alignment)
	start := len(e.b)
	fill()
	binary.LittleEndian.PutUint32(e.b[at:], uint32(len(e.b)-start))
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case string:
		e.str(v)
	case bool:
		e.u32(map[bool]uint32{true: 1}[v])
	case uint32:
		e.u32(v)
	case uint64:
		e.u64(v)
	case []byte:
		e.array(1, func() { e.b = append(e.b, v...) })
	case []uint32:
		e.array(4, func() { each(v, e.u32) })
	case []Property:
		e.array(8, func() { each(v, e.property) })
	case []Pair:
		e.array(8, func() { each(v, func(p Pair) { e.align(8); e.str(p[0]); e.str(p[1]) }) })
	case []Amount:
		e.array(8, func() { each(v, func(a Amount) { e.align(8); e.str(a.Key); e.u64(a.Value) }) })
	case NoUnits:
		e.array(8, func() {})
	}
}

func each[T any](list []T, f func(T)) {
	for _, v := range list {
		f(v)
	}
}

func (e *encoder) property(p Property) {
	e.align(8)
	e.str(p.Name)
	e.sig(Signature(p.Value))
	e.value(p.Value)
}

// marshal makes the message of a call.
func (c *Call) marshal(serial uint32) ([]byte, error) {
	body, signature := &encoder{}, ""
	for _, a := range c.Args {
		s := Signature(a)
		if s == "" {
			return nil, fmt.Errorf("argument of type %T", a)
		}
		if list, ok := a.([]Property); ok {
			for _, p := range list {
				if Signature(p.Value) == "" {
					return nil, fmt.Errorf("property %s of type %T", p.Name, p.Value)
				}
			}
		}
		signature += s
		body.value(a)
	}
	if len(signature) > 255 || len(body.b) > maxMessage/2 {
		return nil, errors.New("too many arguments")
	}
	e := &encoder{b: []byte{'l', typeCall, 0, 1}}
	e.u32(uint32(len(body.b)))
	e.u32(serial)
	e.array(8, func() {
		field := func(code byte, kind, value string) {
			if value == "" {
				return
			}
			e.align(8)
			e.b = append(e.b, code)
			e.sig(kind)
			if kind == "g" {
				e.sig(value)
			} else {
				e.str(value)
			}
		}
		field(fieldPath, "o", c.Path)
		field(fieldInterface, "s", c.Interface)
		field(fieldMember, "s", c.Member)
		field(fieldDestination, "s", c.Destination)
		field(fieldSignature, "g", signature)
	})
	e.align(8)
	return append(e.b, body.b...), nil
}

// message is what was read.
type message struct {
	kind   byte
	reply  uint32
	fields [lastField]string
	args   []any
}

func (m *message) signal() Signal {
	return Signal{m.fields[fieldInterface], m.fields[fieldMember], m.args}
}

var errMessage = errors.New("malformed message")

// unmarshal reads a whole message whose sizes the caller has checked. Arguments
// behind one of a type that isn't known are left out.
func unmarshal(b []byte) (*message, error) {
	m := &message{kind: b[1]}
	end := 16 + int(binary.LittleEndian.Uint32(b[12:]))
	if end > len(b) || end < 16 {
		return nil, errMessage
	}
	d := &decoder{b: b[:end], at: 16}
	for d.at < end && d.err == nil {
		d.align(8)
		code := d.byte()
		v := d.value(d.sig())
		switch s, isString := v.(string); {
		case v == nil:
			return nil, errMessage
		case code == fieldReply:
			m.reply, _ = v.(uint32)
		case isString && code < lastField:
			m.fields[code] = s
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	d = &decoder{b: b[min((end+7)&^7, len(b)):]}
	for kind := range strings.SplitSeq(m.fields[fieldSignature], "") {
		v := d.value(kind)
		if v == nil || d.err != nil {
			break
		}
		m.args = append(m.args, v)
	}
	return m, nil
}

// decoder reads values of single types.
type decoder struct {
	b   []byte
	at  int
	err error
}

// take returns the next n bytes, or zeros behind the end.
func (d *decoder) take(n int) []byte {
	if n < 0 || d.at+n > len(d.b) {
		d.err = errMessage
		d.at = len(d.b)
		return make([]byte, 8)
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) align(n int) {
	if rest := d.at % n; rest != 0 {
		d.take(n - rest)
	}
}

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) u32() uint32 {
	d.align(4)
	return binary.LittleEndian.Uint32(d.take(4))
}

// text reads n bytes and a zero.
func (d *decoder) text(n int) string {
	b := d.take(n + 1)
	if d.err != nil {
		return ""
	}
	return string(b[:n])
}

func (d *decoder) sig() string { return d.text(int(d.byte())) }

// maxVariants bounds variants inside variants.
const maxVariants = 8

// value reads a value, nil if its type is not one of those needed.
func (d *decoder) value(kind string) any {
	for range maxVariants {
		switch kind {
		case "s", "o":
			return d.text(int(min(d.u32(), maxMessage)))
		case "g":
			return d.sig()
		case "u":
			return d.u32()
		case "b":
			return d.u32() != 0
		case "t":
			d.align(8)
			return binary.LittleEndian.Uint64(d.take(8))
		case "v":
			kind = d.sig()
		default:
			return nil
		}
	}
	d.err = errMessage
	return nil
}
