package plugins

import (
	"context"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// Ref yields a needed value. It may only be called from inside a [Build].
type Ref[T any] func() T

// OptionalRef yields a value that may be missing; ok tells whether it is there.
type OptionalRef[T any] func() (value T, ok bool)

// needMode is how a provider depends on others.
type needMode int

const (
	needOne needMode = iota
	needNamed
	needOptional
	needAll
	needAfter
)

var needLabels = map[needMode]string{
	needOne: graph.One, needNamed: graph.Named, needOptional: graph.Optional,
	needAll: graph.All, needAfter: graph.After,
}

// must reports whether the need has to be met.
func (m needMode) must() bool { return m == needOne || m == needNamed }

// need is one declared dependency. Resolving fills candidates, in the order of
// preference; those that start late or fail make room for the next.
type need struct {
	mode       needMode
	kind       *kind
	name       string
	candidates []*step
}

// Scope records what one provider declares. Its methods and the functions that
// take it belong into the declaration; those that describe the provider
// (Capabilities, Exports, Platforms) may be called while it is built too.
type Scope struct {
	p        *provider
	settings config.Settings
	doc      *config.Document
	report   *config.Report
	sys      *System

	needs    []*need
	config   any // pointer to the config struct; nil if none
	live     func(ctx context.Context, next any) error
	off      string
	required bool

	mu           sync.Mutex // guards what is below
	capabilities []string
	exports      map[string]string
	platforms    []graph.Platform
}

// ID is the provider's visible name, such as
// "io.containerd.snapshotter.v1.overlayfs".
func (s *Scope) ID() string { return s.p.id() }

// Name is the provider's name within its kind.
func (s *Scope) Name() string { return s.p.name }

// Settings are the daemon's own keys of the config.
func (s *Scope) Settings() config.Settings { return s.settings }

// Root is the provider's own folder for what outlives a reboot. It is not made.
func (s *Scope) Root() string { return filepath.Join(s.settings.Root, s.ID()) }

// State is the provider's own folder for what ends with a reboot. It is not
// made.
func (s *Scope) State() string { return filepath.Join(s.settings.State, s.ID()) }

// Required says that the daemon must not start without this provider. The
// config's required_plugins can say so too.
func (s *Scope) Required() { s.required = true }

// Off turns the provider off, such as a door whose address is empty. What needs
// it is off as well, unless that is required. The reason is shown to operators.
func (s *Scope) Off(reason string) { s.off = reason }

// Capabilities adds optional features that introspection shows, such as
// "rebase" of a snapshotter.
func (s *Scope) Capabilities(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capabilities = append(s.capabilities, names...)
}

// Export adds a fact that introspection shows, such as a root folder.
func (s *Scope) Export(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports == nil {
		s.exports = map[string]string{}
	}
	s.exports[key] = value
}

// Platforms adds the platforms the provider works for.
func (s *Scope) Platforms(platforms ...graph.Platform) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.platforms = append(s.platforms, platforms...)
}

// describe copies the metadata to a node of the graph.
func (s *Scope) describe(n *graph.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Capabilities = slices.Clone(s.capabilities)
	n.Exports = maps.Clone(s.exports)
	n.Platforms = slices.Clone(s.platforms)
}

func (s *Scope) need(mode needMode, k *kind, name string) *need {
	n := &need{mode: mode, kind: k, name: name}
	s.needs = append(s.needs, n)
	return n
}

// One declares a need for exactly one provider of k. See the package's text for
// which one it is if there are several.
func One[T any](s *Scope, k Kind[T]) Ref[T] {
	n := s.need(needOne, k.k, "")
	return func() T { return s.sys.must(s, n).(T) }
}

// Named declares a need for the provider of k with that name, which may come
// from the provider's config.
func Named[T any](s *Scope, k Kind[T], name string) Ref[T] {
	n := s.need(needNamed, k.k, name)
	return func() T { return s.sys.must(s, n).(T) }
}

// Optional declares a need for at most one provider of k; it may be missing or
// fail.
func Optional[T any](s *Scope, k Kind[T]) OptionalRef[T] {
	n := s.need(needOptional, k.k, "")
	return func() (T, bool) {
		v, ok := s.sys.first(s, n)
		if !ok {
			var zero T
			return zero, false
		}
		return v.(T), true
	}
}

// All declares a need for every provider of k that works, by name. There may be
// none.
func All[T any](s *Scope, k Kind[T]) Ref[map[string]T] {
	n := s.need(needAll, k.k, "")
	return func() map[string]T {
		out := map[string]T{}
		for name, v := range s.sys.all(s, n) {
			out[name] = v.(T)
		}
		return out
	}
}

// After declares that the provider starts after all providers of the kinds, and
// is closed before them, without using their values. None of them has to exist.
func After(s *Scope, roles ...Role) {
	for _, k := range roles {
		s.need(needAfter, k.role(), "")
	}
}

// Config declares the provider's configuration, with its defaults. It is filled
// from the config's table plugins."<id>" at once, so needs may depend on it;
// unknown keys, wrong types and what the struct's Validate method finds are
// reported with all other mistakes. After a mistake the values are not to be
// relied on; the provider will not be built.
func Config[C any](s *Scope, defaults C) *C {
	if s.config != nil {
		panic("plugins: " + s.ID() + " declares its config twice")
	}
	c := &defaults
	s.config = c
	config.Decode(s.doc.Root.Get("plugins", s.ID()), c, s.ID(), s.report)
	return c
}

// Look reads another provider's part of the config over the defaults, for what
// two have to agree on, such as the address that one listens at and another one
// tells. Mistakes in it are that provider's to report.
func Look[C any](s *Scope, id string, defaults C) C {
	config.Decode(s.doc.Root.Get("plugins", id), &defaults, id, &config.Report{})
	return defaults
}

// Live declares that the provider takes a changed config while it runs: apply
// is called with the new one after all of the new file has been checked. It
// returns [ErrRestart] if it can't take that change; any other error is
// reported and the old config stays. The pointer that [Config] returned never
// changes.
func Live[C any](s *Scope, c *C, apply func(ctx context.Context, next *C) error) {
	if s.config != any(c) {
		panic("plugins: " + s.ID() + ": Live with another config than its own")
	}
	s.live = func(ctx context.Context, next any) error { return apply(ctx, next.(*C)) }
}

// configChanged reports whether two declarations got different configs.
func configChanged(a, b *Scope) bool { return !reflect.DeepEqual(a.config, b.config) }
