// Package filter selects objects by expressions, in the syntax of containerd's
// clients:
//
//	name==nginx,labels."team"~=^web
//
// A filter is a list of selectors that must all hold, joined by commas. A
// selector is a path and, unless presence is asked for, an operator and a
// value: == equal, != not equal, ~= matches a regular expression (RE2). Path
// parts and values that aren't plain words are quoted as in Go; a value of ~=
// may also stand between slashes or bars. Several filters are alternatives.
package filter

import (
	"regexp"
)

// Adaptor gives a filter access to an object's fields. The second result is
// whether the field is there.
type Adaptor func(path []string) (string, bool)

// Filter decides whether an object is selected. It is safe for concurrent use.
type Filter interface {
	Match(Adaptor) bool
}

// Any matches what at least one of its filters matches; the empty list matches all.
type Any []Filter

// Match reports whether any filter does.
func (fs Any) Match(a Adaptor) bool {
	for _, f := range fs {
		if f.Match(a) {
			return true
		}
	}
	return len(fs) == 0
}

type all []selector

func (ss all) Match(a Adaptor) bool {
	for _, s := range ss {
		if !s.match(a) {
			return false
		}
	}
	return true
}

type operator uint8

const (
	present operator = iota
	equal
	notEqual
	matches
)

type selector struct {
	path  []string
	op    operator
	value string
	re    *regexp.Regexp
}

func (s selector) match(a Adaptor) bool {
	v, ok := a(s.path)
	switch s.op {
	case present:
		return ok
	case equal:
		return ok && v == s.value
	case notEqual:
		return v != s.value
	default:
		return ok && s.re.MatchString(v)
	}
}

// Labels resolves the rest of a path against labels: the parts are joined by
// dots, so that labels.a.b finds the key "a.b".
func Labels(labels map[string]string, path []string) (string, bool) {
	key := ""
	for i, p := range path {
		if i > 0 {
			key += "."
		}
		key += p
	}
	v, ok := labels[key]
	return v, ok
}
