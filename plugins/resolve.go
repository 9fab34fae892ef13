package plugins

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/orlop/orlop/internal/suggest"
	"github.com/orlop/orlop/plugins/config"
)

// resolve finds the candidates of every need. A provider that turned itself off
// takes along, off too, those that need exactly it; one that nobody provides or
// that the config disabled is a mistake if it is needed.
func (pl *planner) resolve() {
	for changed := true; changed; {
		changed = false
		for _, st := range pl.steps {
			if st.off != "" {
				continue
			}
			for _, n := range st.scope.needs {
				if why := pl.candidates(n); why != "" && !st.scope.required {
					st.off = why
					changed = true
					break
				}
			}
		}
	}
	for _, st := range pl.steps {
		for _, n := range st.scope.needs {
			if st.off == "" {
				pl.check(st, n)
			} else if len(n.candidates) == 0 {
				pl.candidates(n)
			}
		}
	}
}

// candidates sets what a need may be met by. If it must be met and all its
// providers turned themselves off, it returns the reason.
func (pl *planner) candidates(n *need) string {
	n.candidates = nil
	offs := []*step{}
	disabled := false
	for _, st := range pl.byKind[n.kind.name] {
		switch {
		case n.name != "" && st.p.name != n.name:
		case st.off == "":
			n.candidates = append(n.candidates, st)
		default:
			offs = append(offs, st)
			disabled = disabled || slices.Contains(pl.settings.DisabledPlugins, st.id())
		}
	}
	if len(n.candidates) == 0 && len(offs) > 0 && !disabled && n.mode.must() {
		return fmt.Sprintf("needs %s, which is off: %s", offs[0].id(), offs[0].off)
	}
	if n.mode == needOne || n.mode == needOptional {
		pl.prefer(n)
	}
	return ""
}

// prefer narrows the candidates to the one the config chooses, or orders them
// by the kind's preference.
func (pl *planner) prefer(n *need) {
	name := pl.settings.Defaults[n.kind.name]
	known := func(st *step) bool { return st.p.name == name }
	if slices.ContainsFunc(pl.byKind[n.kind.name], known) { // checkDefault reports others
		n.candidates = slices.DeleteFunc(n.candidates, func(st *step) bool { return st.p.name != name })
		return
	}
	if len(n.kind.prefer) == 0 || len(n.candidates) < 2 {
		return
	}
	rank := func(st *step) int {
		if i := slices.Index(n.kind.prefer, st.p.name); i >= 0 {
			return i
		}
		return len(n.kind.prefer)
	}
	slices.SortStableFunc(n.candidates, func(a, b *step) int { return cmp.Compare(rank(a), rank(b)) })
	n.candidates = slices.DeleteFunc(n.candidates, func(st *step) bool { return rank(st) == len(n.kind.prefer) })
}

// check reports a need that can't be met, or that too many could meet.
func (pl *planner) check(st *step, n *need) {
	have := len(n.candidates)
	switch {
	case n.mode.must() && have == 0:
		pl.missing(st, n)
	case (n.mode == needOne || n.mode == needOptional) && have > 1 && len(n.kind.prefer) == 0:
		names := make([]string, have)
		for i, c := range n.candidates {
			names[i] = c.p.name
		}
		at := nodePos(pl.doc.Root.Get("plugins", st.id()))
		pl.report.Problems.Add(at, "%s needs one %s and there are %d: %s; choose by [defaults] %q = %q, or disable the others",
			st.id(), n.kind.name, have, strings.Join(names, ", "), n.kind.name, names[0])
	}
}

func (pl *planner) missing(st *step, n *need) {
	var reasons []string
	pos := config.Pos{}
	var names []string
	for _, other := range pl.byKind[n.kind.name] {
		names = append(names, other.p.name)
		if other.off == "" || n.name != "" && other.p.name != n.name {
			continue
		}
		reasons = append(reasons, other.id()+" is off: "+other.off)
		if at := pl.listed("disabled_plugins", other.id()); at.File != "" {
			pos = at
		}
	}
	hint := ""
	if n.name != "" {
		hint = suggest.Closest(n.name, names)
		pos = cmp.Or(pos, nodePos(pl.doc.Root.Get("plugins", st.id())))
	}
	what := n.kind.name
	if n.name != "" {
		what += "." + n.name
	}
	msg := fmt.Sprintf("%s needs %s, which nothing provides", st.id(), what)
	if len(reasons) > 0 {
		msg = fmt.Sprintf("%s needs %s: %s", st.id(), what, strings.Join(reasons, "; "))
	}
	pl.report.Problems.AddHint(pos, hint, "%s", msg)
}

// order sorts the steps so that needs come first; ties keep the order of names,
// so the same config always starts in the same order. Cycles are reported as
// the path they take.
func (pl *planner) order() {
	const (
		white = iota
		grey
		black
	)
	colour := map[*step]int{}
	var path []*step
	var visit func(st *step)
	visit = func(st *step) {
		switch colour[st] {
		case black:
			return
		case grey:
			pl.cycle(append(path[slices.Index(path, st):], st))
			return
		}
		colour[st] = grey
		path = append(path, st)
		for _, n := range st.scope.needs {
			for _, dep := range n.candidates {
				if dep != st || n.mode != needAfter && n.mode != needAll {
					visit(dep)
				}
			}
		}
		path = path[:len(path)-1]
		colour[st] = black
		pl.plan.steps = append(pl.plan.steps, st)
	}
	for _, st := range pl.steps {
		visit(st)
	}
}

func (pl *planner) cycle(path []*step) {
	ids := make([]string, len(path))
	for i, st := range path {
		ids[i] = st.id()
	}
	pl.report.Problems.Add(config.Pos{}, "these plugins need each other: %s", strings.Join(ids, " -> "))
}
