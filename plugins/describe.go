package plugins

import (
	"cmp"
	"slices"

	"github.com/orlop/orlop/plugins/config"
)

// Example is a commented config file with every plugin's keys at their
// defaults.
func (r *Registry) Example(defaults config.Settings) string {
	plan, _ := r.Plan(config.Empty(), defaults) // what is missing is no matter here
	return config.Write(defaults, plan.sections(false), true)
}

// Dump is the config in force, as a file. With comments each key is explained,
// and it is said of plugins that are off why.
func (p *Plan) Dump(comments bool) string {
	return config.Write(p.Settings, p.sections(true), comments)
}

// Dump is the config in force, as a file. Changes that a reload has applied are
// in it; those that wait for a restart aren't.
func (sys *System) Dump(comments bool) string {
	sys.reload.Lock()
	defer sys.reload.Unlock()
	p := Plan{Settings: sys.settings, steps: sys.steps}
	return p.Dump(comments)
}

// sections are the plugins' parts of the file, in the order of their names.
func (p *Plan) sections(states bool) []config.Section {
	var out []config.Section
	for _, st := range p.steps {
		if st.p.proxy {
			continue
		}
		s := config.Section{ID: st.id(), Doc: st.p.kind.doc, Config: st.scope.config}
		if st.scope.live != nil {
			s.Notes = append(s.Notes, "Changes take effect when the config is loaded again.")
		}
		if states && st.off != "" {
			s.Notes = append(s.Notes, "Off: "+st.off+".")
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b config.Section) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
