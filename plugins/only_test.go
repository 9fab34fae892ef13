package plugins

import (
	"strings"
	"testing"
)

// Only what is listed is started, with what it needs.
func TestOnly(t *testing.T) {
	w := newWorld()
	w.provide(store, "disk", func(s *Scope) { s.Required() })
	w.provide(snap, "fast", func(s *Scope) { One(s, store) })
	w.provide(door, "grpc", func(s *Scope) { One(s, snap) })
	w.provide(door, "web", func(s *Scope) { One(s, store); Optional(s, snap) })
	p, err := w.plan(t, "version = 4\nonly_plugins = [\"io.test.door.v1.web\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(p.String()) {
		off, needed := strings.Contains(line, "not among only_plugins"), strings.Contains(line, ".disk:") || strings.Contains(line, ".web:")
		if off == needed {
			t.Errorf("%s", line)
		}
	}
	if _, err := w.plan(t, "version = 4\nonly_plugins = [\"io.test.door.v1.wbe\"]\n"); err == nil || !strings.Contains(err.Error(), "unknown plugin io.test.door.v1.wbe in only_plugins") {
		t.Errorf("an unknown name: %v", err)
	}
}
