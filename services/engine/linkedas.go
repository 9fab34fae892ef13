package engine

import (
	"maps"
	"slices"
)

// showLinks puts the names that others' links give containers into their views.
func (e *Engine) showLinks(views []View) {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.byID))
	e.mu.Unlock()
	linking := map[*Container][]string{}
	for _, c := range all {
		if _, h := c.config(); len(h.Links) > 0 {
			linking[c] = h.Links
		}
	}
	if len(linking) == 0 {
		return
	}
	at := map[string]int{}
	for i := range views {
		at[views[i].ID] = i
	}
	for c, links := range linking {
		for _, text := range links {
			target, alias := SplitLink(text)
			other, err := e.lookup(target)
			if err != nil {
				continue
			}
			if i, ok := at[other.ID]; ok {
				views[i].LinkedAs = append(views[i].LinkedAs, c.name()+"/"+alias)
			}
		}
	}
	for i := range views {
		slices.Sort(views[i].LinkedAs)
	}
}
