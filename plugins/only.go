package plugins

import "slices"

// narrow turns off what only_plugins neither lists nor needs. What is merely used where
// it is there, such as figures, has to be listed.
func (pl *planner) narrow() {
	if len(pl.settings.OnlyPlugins) == 0 {
		return
	}
	wanted := map[*step]bool{}
	var todo []*step
	for _, st := range pl.steps {
		if slices.Contains(pl.settings.OnlyPlugins, st.id()) {
			todo = append(todo, st)
		}
	}
	for len(todo) > 0 {
		st := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if wanted[st] {
			continue
		}
		wanted[st] = true
		for _, n := range st.scope.needs {
			if !n.mode.must() {
				continue
			}
			for _, other := range pl.byKind[n.kind.name] {
				if n.name == "" || n.name == other.p.name {
					todo = append(todo, other)
				}
			}
		}
	}
	for _, st := range pl.steps {
		if !wanted[st] && st.off == "" {
			st.off = "not among only_plugins, and not needed by them"
			st.scope.required = false
		}
	}
}
