package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/orlop/orlop/core/registry"
	services "github.com/orlop/orlop/services/registry"
)

// Right lets somebody do something.
type Right struct {
	// Who are names; "*" is everybody with a name, "anonymous" everybody at all.
	Who []string `toml:"who"`
	// Repositories are patterns, in which {name} stands for who asks.
	Repositories []string `toml:"repositories"`
	// Actions are pull, push (which includes pull), delete, or "*".
	Actions []string `toml:"actions"`
}

// Words of rules.
const (
	anyone = "anonymous"
	named  = "*"
	every  = "*"
	myself = "{name}"
)

// rules are the rights, in a form that is quick to ask; nil is everything for
// everybody with a name.
type rules []rule

type rule struct {
	who     []string
	repos   registry.Patterns
	own     []string // patterns with the name in them
	actions []services.Action
}

func parseRules(rights []Right) (rules, error) {
	var out rules
	for i, right := range rights {
		r, err := right.parse()
		if err != nil {
			return nil, fmt.Errorf("rights: rule %d: %w", i+1, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (r Right) parse() (rule, error) {
	out := rule{who: r.Who}
	if len(r.Who) == 0 || len(r.Repositories) == 0 || len(r.Actions) == 0 {
		return out, fmt.Errorf("who, repositories and actions are all needed")
	}
	for _, text := range r.Repositories {
		p, err := registry.ParsePattern(text)
		switch {
		case err != nil:
			return out, err
		case strings.Contains(text, myself):
			out.own = append(out.own, text)
		default:
			out.repos = append(out.repos, p)
		}
	}
	for _, a := range r.Actions {
		switch a {
		case every:
			out.actions = append(out.actions, services.Pull, services.Push, services.Delete)
		case string(services.Push):
			out.actions = append(out.actions, services.Pull, services.Push)
		case string(services.Pull), string(services.Delete):
			out.actions = append(out.actions, services.Action(a))
		default:
			return out, fmt.Errorf("action %q is none of pull, push, delete and *", a)
		}
	}
	return out, nil
}

// may asks all rules. The catalog may be listed by everybody who has some right, as it
// shows each only what they may pull.
func (rs rules) may(name string, a services.Access) bool {
	if a.Catalog {
		return name != "" || slices.ContainsFunc(rs, func(r rule) bool { return r.means(name) })
	}
	if len(rs) == 0 {
		return name != ""
	}
	return slices.ContainsFunc(rs, func(r rule) bool { return r.allows(name, a) })
}

func (r rule) allows(name string, a services.Access) bool {
	if !slices.Contains(r.actions, a.Action) || !r.means(name) {
		return false
	}
	return r.repos.Match(a.Repository) || slices.ContainsFunc(r.own, func(text string) bool {
		// A name that is no part of a repository's name, such as one with slashes or
		// stars, owns nothing.
		if registry.CheckName(name) != nil || strings.Contains(name, "/") {
			return false
		}
		p, err := registry.ParsePattern(strings.ReplaceAll(text, myself, name))
		return err == nil && p.Match(a.Repository)
	})
}

func (r rule) means(name string) bool {
	return slices.Contains(r.who, anyone) || name != "" && (slices.Contains(r.who, named) || slices.Contains(r.who, name))
}
