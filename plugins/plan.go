package plugins

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/orlop/orlop/internal/suggest"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// Plan is a checked, ordered and configured set of providers; nothing in it has
// run yet.
type Plan struct {
	// Settings are the daemon's own keys of the config.
	Settings config.Settings
	// Warnings are remarks about the config that don't keep it from starting.
	Warnings config.Problems

	reg   *Registry
	steps []*step // in build order; those that are off come too
	sys   *System
}

// step is one provider of a plan.
type step struct {
	p     *provider
	scope *Scope
	build func(context.Context) (any, error)
	off   string // why it is not built; "" if it is
}

func (st *step) id() string { return st.p.id() }

// planner gathers the parts of a plan and all that is wrong with it.
type planner struct {
	reg       *Registry
	doc       *config.Document
	settings  config.Settings
	report    config.Report
	providers []*provider
	steps     []*step
	byKind    map[string][]*step
	plan      *Plan
}

// Plan declares every provider, with the config in doc over the settings given,
// resolves what needs what, and orders the result. The error is a
// [config.Problems] with all mistakes, not just the first.
func (r *Registry) Plan(doc *config.Document, defaults config.Settings) (*Plan, error) {
	pl := &planner{reg: r, doc: doc, byKind: map[string][]*step{}}
	pl.settings = doc.Settings(defaults, &pl.report)
	pl.plan = &Plan{Settings: pl.settings, reg: r, sys: newSystem()}
	pl.providers = slices.Clone(r.providers)
	pl.addProxies()
	pl.checkNames()
	pl.declare()
	pl.narrow()
	pl.resolve()
	pl.order()
	pl.plan.Warnings = append(slices.Clone(doc.Warnings), pl.report.Warnings...)
	return pl.plan, pl.report.Problems.Err()
}

// addProxies turns the entries of proxy_plugins into providers.
func (pl *planner) addProxies() {
	for _, name := range slices.Sorted(maps.Keys(pl.settings.ProxyPlugins)) {
		entry, n := pl.settings.ProxyPlugins[name], pl.doc.Root.Get("proxy_plugins", name)
		pos := nodePos(n)
		make := pl.reg.proxies[entry.Type]
		switch {
		case entry.Type == "":
			pl.report.Problems.Add(pos, "proxy_plugins.%s has no type", name)
		case make == nil:
			types := slices.Sorted(maps.Keys(pl.reg.proxies))
			at := nodePos(n.Get("type"))
			pl.report.Problems.AddHint(at, suggest.Closest(entry.Type, types),
				"proxy_plugins.%s: type %q is none of %s", name, entry.Type, strings.Join(types, ", "))
		case entry.Address == "":
			pl.report.Problems.Add(pos, "proxy_plugins.%s has no address", name)
		default:
			p := make(name, entry)
			if lookup(pl.providers, p.id()) != nil {
				pl.report.Problems.Add(pos, "proxy_plugins.%s: %s is built in; choose another name", name, p.id())
				continue
			}
			pl.providers = append(pl.providers, p)
		}
	}
}

func nodePos(n *config.Node) config.Pos {
	if n == nil {
		return config.Pos{}
	}
	return n.Pos
}

// checkNames reports plugins and kinds in the config that don't exist.
func (pl *planner) checkNames() {
	ids := pl.ids()
	root := pl.doc.Root
	plugins := root.Get("plugins")
	for _, id := range plugins.Keys() {
		pl.checkName(id, plugins.Table[id], ids, true, "plugins")
	}
	for key, mayMiss := range map[string]bool{"disabled_plugins": true, "required_plugins": false, "only_plugins": false} {
		if list := root.Get(key); list != nil {
			for _, n := range list.List {
				if id, ok := n.Value.(string); ok {
					pl.checkName(id, n, ids, mayMiss, key)
				}
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(pl.settings.Defaults)) {
		pl.checkDefault(kind, pl.settings.Defaults[kind])
	}
	for _, id := range pl.settings.RequiredPlugins {
		if slices.Contains(pl.settings.DisabledPlugins, id) {
			pl.report.Problems.Add(pl.listed("disabled_plugins", id), "%s is both required and disabled", id)
		}
	}
}

func (pl *planner) ids() []string {
	ids := make([]string, len(pl.providers))
	for i, p := range pl.providers {
		ids[i] = p.id()
	}
	return ids
}

// checkName reports an unknown plugin. Where it may be missing, one of
// containerd's that Orlop doesn't have is only remarked on.
func (pl *planner) checkName(id string, n *config.Node, ids []string, mayMiss bool, where string) {
	if slices.Contains(ids, id) {
		return
	}
	if mayMiss && config.Foreign(id, n) {
		if where == "plugins" {
			pl.report.Warnings.Add(n.Pos, "%s is ignored: containerd has this plugin, Orlop doesn't", id)
		}
		return
	}
	pl.report.Problems.AddHint(n.Pos, suggest.Closest(id, ids), "unknown plugin %s in %s", id, where)
}

func (pl *planner) checkDefault(kind, name string) {
	pos := nodePos(pl.doc.Root.Get("defaults", kind))
	var kinds, names []string
	for _, p := range pl.providers {
		if !slices.Contains(kinds, p.kind.name) {
			kinds = append(kinds, p.kind.name)
		}
		if p.kind.name == kind {
			names = append(names, p.name)
		}
	}
	switch {
	case len(names) == 0:
		pl.report.Problems.AddHint(pos, suggest.Closest(kind, kinds), "unknown role %s in defaults", kind)
	case !slices.Contains(names, name):
		pl.report.Problems.AddHint(pos, suggest.Closest(name, names),
			"defaults: %s has no provider %q, only %s", kind, name, strings.Join(names, ", "))
	case slices.Contains(pl.settings.DisabledPlugins, kind+"."+name):
		pl.report.Problems.Add(pos, "defaults: %s.%s is in disabled_plugins", kind, name)
	}
}

// listed is the position of a string in a top-level list.
func (pl *planner) listed(key, value string) config.Pos {
	if list := pl.doc.Root.Get(key); list != nil {
		for _, n := range list.List {
			if n.Value == value {
				return n.Pos
			}
		}
	}
	return config.Pos{}
}

// declare runs every provider's declaration, in the order of their names.
func (pl *planner) declare() {
	slices.SortFunc(pl.providers, func(a, b *provider) int { return cmp.Compare(a.id(), b.id()) })
	for _, p := range pl.providers {
		s := &Scope{p: p, settings: pl.settings, doc: pl.doc, report: &pl.report, sys: pl.plan.sys}
		st := &step{p: p, scope: s}
		pl.steps = append(pl.steps, st)
		pl.byKind[p.kind.name] = append(pl.byKind[p.kind.name], st)
		st.build = p.declare(s)
		s.required = s.required || slices.Contains(pl.settings.RequiredPlugins, p.id())
		switch {
		case slices.Contains(pl.settings.DisabledPlugins, p.id()):
			st.off = "disabled in the config"
			if at := pl.listed("disabled_plugins", p.id()).String(); at != "" {
				st.off += " (" + at + ")"
			}
		case s.off != "":
			st.off = s.off
		case st.build == nil:
			panic("plugins: " + p.id() + " declares no Build")
		}
	}
}

// Graph describes the plan: all is planned or off.
func (p *Plan) Graph() graph.Graph { return describe(p.steps, p.sys) }

// String lists the plan in build order, one provider a line.
func (p *Plan) String() string {
	var b strings.Builder
	for i, st := range p.steps {
		fmt.Fprintf(&b, "%d %s: %v", i+1, st.id(), st.p.typ)
		for _, n := range st.scope.needs {
			fmt.Fprintf(&b, " <- %s", n.describe())
		}
		if st.off != "" {
			fmt.Fprintf(&b, " (off: %s)", st.off)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (n *need) describe() string {
	s := n.kind.name
	if n.name != "" {
		s += "." + n.name
	}
	if n.mode != needOne && n.mode != needNamed {
		s = needLabels[n.mode] + " " + s
	}
	return s
}
