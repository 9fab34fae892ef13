package plugins

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// CloseLimit is how long a provider may take to close. Longer than any single
// flush to a disk that still answers, shorter than the 90 seconds after which
// systemd kills a daemon.
const CloseLimit = 10 * time.Second

// state is what has become of a step.
type state struct {
	status graph.Status
	value  any
	err    error
	took   time.Duration
}

// System is a running set of providers.
type System struct {
	reg        *Registry
	steps      []*step
	closeLimit time.Duration

	reload   sync.Mutex      // one reload at a time; taken before mu
	settings config.Settings // in force; guarded by reload

	mu     sync.Mutex // guards what is below
	states map[*step]*state
	order  []*step // started, in the order they finished
	closed bool
}

func newSystem() *System {
	return &System{closeLimit: CloseLimit, states: map[*step]*state{}}
}

// state returns a copy of what has become of st.
func (sys *System) state(st *step) state {
	sys.mu.Lock()
	defer sys.mu.Unlock()
	if s := sys.states[st]; s != nil {
		return *s
	}
	if st.off != "" {
		return state{status: graph.Off, err: errors.New(st.off)}
	}
	return state{status: graph.Planned}
}

func (sys *System) set(st *step, s state) {
	sys.mu.Lock()
	defer sys.mu.Unlock()
	sys.states[st] = &s
	if s.status == graph.OK {
		sys.order = append(sys.order, st)
	}
}

// working yields the candidates of a need that started, best first.
func (sys *System) working(n *need) iter.Seq2[*step, any] {
	return func(yield func(*step, any) bool) {
		for _, c := range n.candidates {
			if s := sys.state(c); s.status == graph.OK && !yield(c, s.value) {
				return
			}
		}
	}
}

// first returns the value of the best working candidate.
func (sys *System) first(s *Scope, n *need) (any, bool) {
	sys.built(s)
	for _, v := range sys.working(n) {
		return v, true
	}
	return nil, false
}

// must returns the value of a need that was met before Build was called.
func (sys *System) must(s *Scope, n *need) any {
	v, ok := sys.first(s, n)
	if !ok {
		panic(fmt.Sprintf("plugins: %s has lost its %s", s.ID(), n.kind.name))
	}
	return v
}

func (sys *System) all(s *Scope, n *need) map[string]any {
	sys.built(s)
	out := map[string]any{}
	for c, v := range sys.working(n) {
		if c.scope != s {
			out[c.p.name] = v
		}
	}
	return out
}

// built panics if a Ref is used in a declaration, where nothing exists yet.
func (sys *System) built(s *Scope) {
	sys.mu.Lock()
	defer sys.mu.Unlock()
	for st := range sys.states {
		if st.scope == s {
			return
		}
	}
	panic("plugins: " + s.ID() + " uses a Ref outside of Build")
}

// Get returns the best working provider of k, for the program that started the
// system: a provider declares its needs instead.
func Get[T any](sys *System, k Kind[T]) (T, bool) {
	for _, st := range sys.steps {
		if st.p.kind != k.k {
			continue
		}
		if s := sys.state(st); s.status == graph.OK {
			return s.value.(T), true
		}
	}
	var zero T
	return zero, false
}

// Graph describes what is wired to what now.
func (sys *System) Graph() graph.Graph { return describe(sys.steps, sys) }

func describe(steps []*step, sys *System) graph.Graph {
	var g graph.Graph
	for _, st := range steps {
		s := sys.state(st)
		n := graph.Node{
			ID: st.id(), Kind: st.p.kind.name, Name: st.p.name, Doc: st.p.kind.doc, Type: st.p.typ.String(),
			Status: s.status, Required: st.scope.required, Proxy: st.p.proxy, Live: st.scope.live != nil, Took: s.took,
		}
		if s.err != nil {
			n.Why = s.err.Error()
		}
		st.scope.describe(&n)
		g.Nodes = append(g.Nodes, n)
		for _, need := range st.scope.needs {
			g.Edges = append(g.Edges, edges(st, need, sys)...)
		}
	}
	g.Sort()
	return g
}

// edges describes a need: where one of several candidates is taken, the others
// are shown as not used.
func edges(st *step, n *need, sys *System) []graph.Edge {
	single := n.mode == needOne || n.mode == needOptional || n.mode == needNamed
	taken := false
	var out []graph.Edge
	for _, c := range n.candidates {
		if c == st {
			continue
		}
		status := sys.state(c).status
		works := status == graph.OK || status == graph.Planned || status == graph.Starting
		out = append(out, graph.Edge{
			From: st.id(), To: c.id(), Need: needLabels[n.mode], Used: works && !(single && taken),
		})
		taken = taken || works
	}
	return out
}

// Close closes, last started first, every provider that can be closed. Each has
// [CloseLimit], or less if ctx ends sooner; one that takes longer is reported
// and left behind. It may be called again and then does nothing.
func (sys *System) Close(ctx context.Context) error {
	sys.mu.Lock()
	order := sys.order
	sys.order, sys.closed = nil, true
	sys.mu.Unlock()
	var errs []error
	for _, st := range slices.Backward(order) {
		s := sys.state(st)
		err := closeWithin(ctx, sys.closeLimit, s.value)
		if err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", st.id(), err))
		}
		sys.set(st, state{status: graph.Closed, err: err, took: s.took})
	}
	return errors.Join(errs...)
}

// errCloseLimit is the reason for giving up on a provider that hangs.
var errCloseLimit = errors.New("not done within the limit")

func closeWithin(ctx context.Context, limit time.Duration, v any) error {
	close := closer(v)
	if close == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errCloseLimit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- guard("close", func() error { return close(ctx) }) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // it may have ended at the same moment
		return err
	default:
		return fmt.Errorf("left behind: %w", context.Cause(ctx))
	}
}

// closer returns how v is closed, nil if it needn't be.
func closer(v any) func(context.Context) error {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return nil
	}
	switch c := v.(type) {
	case interface{ Close(context.Context) error }:
		return c.Close
	case interface{ Close() error }:
		return func(context.Context) error { return c.Close() }
	case interface{ Close() }:
		return func(context.Context) error { c.Close(); return nil }
	}
	return nil
}
