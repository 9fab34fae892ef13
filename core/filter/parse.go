package filter

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// maxLength bounds one filter, in bytes.
const maxLength = 16 << 10

// Parse reads filters; the result matches what any of them matches.
func Parse(filters ...string) (Any, error) {
	out := make(Any, 0, len(filters))
	for _, text := range filters {
		f, err := parseOne(text)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func parseOne(text string) (Filter, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("filter of %d bytes, at most %d are allowed: %w", len(text), maxLength, errdefs.ErrInvalidArgument)
	}
	p := &parser{text: text}
	if text == "" {
		return all(nil), nil
	}
	var out all
	for {
		s, err := p.selector()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		if p.done() {
			return out, nil
		}
		if !p.take(",") {
			return nil, p.fail("expected a comma or the end")
		}
	}
}

// parser is a recursive descent over text; pos is a byte offset.
type parser struct {
	text string
	pos  int
}

func (p *parser) done() bool { return p.pos >= len(p.text) }

func (p *parser) rest() string { return p.text[p.pos:] }

func (p *parser) take(token string) bool {
	if strings.HasPrefix(p.rest(), token) {
		p.pos += len(token)
		return true
	}
	return false
}

// blanks passes over blanks, which may stand between all tokens.
func (p *parser) blanks() {
	p.pos += span(p.rest(), func(c byte) bool { return c == ' ' || c == '\t' })
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("filter %q, at character %d: %s: %w", p.text, utf8.RuneCountInString(p.text[:p.pos])+1, what, errdefs.ErrInvalidArgument)
}

func (p *parser) selector() (selector, error) {
	p.blanks()
	path, err := p.path()
	if err != nil {
		return selector{}, err
	}
	p.blanks()
	s := selector{path: path}
	switch {
	case p.take("=="):
		s.op = equal
	case p.take("!="):
		s.op = notEqual
	case p.take("~="):
		s.op = matches
	case p.done() || strings.HasPrefix(p.rest(), ","):
		return s, nil
	default:
		return s, p.fail("expected ==, != or ~= after the field")
	}
	p.blanks()
	if s.value, err = p.value(s.op == matches); err != nil {
		return s, err
	}
	p.blanks()
	if s.op == matches {
		if s.re, err = regexp.Compile(s.value); err != nil {
			return s, p.fail(err.Error())
		}
	}
	return s, nil
}

func (p *parser) path() ([]string, error) {
	var path []string
	for {
		part, err := p.field()
		if err != nil {
			return nil, err
		}
		path = append(path, part)
		if !p.take(".") {
			return path, nil
		}
	}
}

func (p *parser) field() (string, error) {
	if strings.HasPrefix(p.rest(), `"`) {
		return p.quoted()
	}
	n := span(p.rest(), func(c byte) bool { return isWord(c) })
	if n == 0 {
		return "", p.fail("expected a field name")
	}
	word := p.rest()[:n]
	p.pos += n
	return word, nil
}

func (p *parser) value(regex bool) (string, error) {
	rest := p.rest()
	switch {
	case strings.HasPrefix(rest, `"`):
		return p.quoted()
	case regex && (strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "|")):
		return p.delimited(rest[0])
	}
	n := span(rest, func(c byte) bool { return c != ',' && c != '"' && c > ' ' })
	if n == 0 {
		return "", p.fail("expected a value")
	}
	p.pos += n
	return rest[:n], nil
}

// delimited reads a regular expression between two of the same character; a
// backslash keeps the delimiter.
func (p *parser) delimited(end byte) (string, error) {
	var b strings.Builder
	rest := p.rest()
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] == '\\' && i+1 < len(rest) && rest[i+1] == end:
			i++
			b.WriteByte(end)
		case rest[i] == end:
			p.pos += i + 1
			return b.String(), nil
		default:
			b.WriteByte(rest[i])
		}
	}
	return "", p.fail(fmt.Sprintf("the expression doesn't end with %q", end))
}

func (p *parser) quoted() (string, error) {
	prefix, err := strconv.QuotedPrefix(p.rest())
	if err != nil {
		return "", p.fail("the quoted text doesn't end")
	}
	value, err := strconv.Unquote(prefix)
	if err != nil {
		return "", p.fail("bad quoted text " + prefix)
	}
	p.pos += len(prefix)
	return value, nil
}

func span(s string, ok func(byte) bool) int {
	for i := range len(s) {
		if !ok(s[i]) {
			return i
		}
	}
	return len(s)
}

func isWord(c byte) bool {
	return c == '_' || c == '-' || c == '/' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}
