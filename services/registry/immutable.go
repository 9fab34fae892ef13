package registry

import "github.com/orlop/orlop/core/registry"

// TagRule chooses tags of repositories.
type TagRule struct {
	Repositories, Tags registry.Patterns
}

// immutable tells which tags of a repository must be neither moved nor deleted; nil is
// none.
func (r *Registry) immutable(repo string) func(tag string) bool {
	var all registry.Patterns
	for _, rule := range r.cfg.Immutable {
		if rule.Repositories.Match(repo) {
			all = append(all, rule.Tags...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all.Match
}
