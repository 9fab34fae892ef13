package plugins

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// ErrRestart is returned by a [Live] provider for a change that it can't take
// while it runs.
var ErrRestart = errors.New("restart needed")

// Change is what a reload did about one provider, or about the daemon's own
// settings (ID "").
type Change struct {
	// ID of the provider.
	ID string
	// Keys that differ, such as "address".
	Keys []string
	// Applied tells that the change is in force.
	Applied bool
	// Restart tells that the change waits for a restart.
	Restart bool
	// Err is what kept a live change from being applied.
	Err error
}

// String says in a line what became of the change.
func (c Change) String() string {
	name := c.ID
	if name == "" {
		name = "settings"
	}
	switch {
	case c.Err != nil:
		return fmt.Sprintf("%s: %v: not applied: %v", name, c.Keys, c.Err)
	case c.Applied:
		return fmt.Sprintf("%s: %v: applied", name, c.Keys)
	}
	return fmt.Sprintf("%s: %v: restart needed", name, c.Keys)
}

// Reload compares doc with the running config. If anything in it is wrong,
// nothing changes and the error lists all mistakes. Else each provider whose
// config differs and that declared [Live] gets the new one, in start order; for
// all others the change says that a restart is needed. The warnings are those
// of the new file.
func (sys *System) Reload(ctx context.Context, doc *config.Document, defaults config.Settings) ([]Change, error) {
	sys.reload.Lock()
	defer sys.reload.Unlock()
	next, err := sys.reg.Plan(doc, defaults)
	if err != nil {
		return nil, err
	}
	byID := map[string]*step{}
	for _, st := range next.steps {
		byID[st.id()] = st
	}
	var changes []Change
	for _, st := range sys.steps {
		fresh := byID[st.id()]
		delete(byID, st.id())
		if c := sys.change(ctx, st, fresh); c != nil {
			changes = append(changes, *c)
		}
	}
	for _, st := range next.steps {
		if byID[st.id()] != nil {
			changes = append(changes, Change{ID: st.id(), Keys: []string{"added"}, Restart: true})
		}
	}
	return append(changes, sys.changeSettings(ctx, next.Settings)...), nil
}

// changeSettings applies those of the daemon's own keys that can change while it
// runs.
func (sys *System) changeSettings(ctx context.Context, next config.Settings) []Change {
	var changes []Change
	keys := differs(sys.settings, next)
	isLive := func(key string) bool { return slices.Contains(sys.reg.liveKeys, key) }
	var live []string
	for _, k := range keys {
		if isLive(k) {
			live = append(live, k)
		}
	}
	if len(live) > 0 {
		c := Change{Keys: live}
		c.Err = guard("reload", func() error { return sys.reg.live(ctx, next) })
		if c.Applied = c.Err == nil; c.Applied {
			adopt(&sys.settings, next, live)
		}
		changes = append(changes, c)
	}
	if rest := slices.DeleteFunc(keys, isLive); len(rest) > 0 {
		changes = append(changes, Change{Keys: rest, Restart: true})
	}
	return changes
}

// adopt copies the fields that the keys name.
func adopt(to *config.Settings, from config.Settings, keys []string) {
	x, y := reflect.ValueOf(to).Elem(), reflect.ValueOf(from)
	for i := range x.NumField() {
		if slices.Contains(keys, config.Key(x.Type().Field(i))) {
			x.Field(i).Set(y.Field(i))
		}
	}
}

// change applies what differs between a running provider and its new
// declaration; nil if nothing does.
func (sys *System) change(ctx context.Context, st, fresh *step) *Change {
	switch {
	case fresh == nil:
		return &Change{ID: st.id(), Keys: []string{"removed"}, Restart: true}
	case (st.off == "") != (fresh.off == ""):
		return &Change{ID: st.id(), Keys: []string{"on/off"}, Restart: true}
	case st.off != "" || !configChanged(st.scope, fresh.scope):
		return nil
	}
	c := &Change{ID: st.id(), Keys: differs(st.scope.config, fresh.scope.config)}
	if st.scope.live == nil || sys.state(st).status != graph.OK {
		c.Restart = true
		return c
	}
	err := guard("reload", func() error { return st.scope.live(ctx, fresh.scope.config) })
	switch {
	case errors.Is(err, ErrRestart):
		c.Restart = true
	case err != nil:
		c.Err = err
	default:
		c.Applied = true
		st.scope.config = fresh.scope.config
	}
	return c
}

// differs lists the keys, by their name in the file, whose values differ
// between two structs of one type.
func differs(a, b any) []string {
	x, y := reflect.Indirect(reflect.ValueOf(a)), reflect.Indirect(reflect.ValueOf(b))
	var keys []string
	for i := range x.NumField() {
		if f := x.Type().Field(i); f.IsExported() && !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			keys = append(keys, config.Key(f))
		}
	}
	slices.Sort(keys)
	// Each plugin's table is compared on its own.
	return slices.DeleteFunc(keys, func(k string) bool { return k == "plugins" })
}
