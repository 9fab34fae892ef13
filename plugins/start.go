package plugins

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/orlop/orlop/plugins/graph"
)

// Start builds every provider that is on, each as soon as all it needs has been
// built. One that fails or skips itself takes along those that need exactly it;
// if one of these is required, the others are awaited, all that was built is
// closed in reverse order, and the error names what failed. A plan is started
// once.
func (p *Plan) Start(ctx context.Context) (*System, error) {
	sys := p.sys
	sys.reg, sys.steps, sys.settings = p.reg, p.steps, p.Settings
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &starter{sys: sys, cancel: cancel, done: map[*step]chan struct{}{}}
	for _, st := range p.steps {
		s.done[st] = make(chan struct{})
	}
	for _, st := range p.steps {
		go s.run(ctx, st)
	}
	for _, st := range p.steps {
		<-s.done[st]
	}
	err := s.failure()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		// The start may have been cancelled; closing still needs its time.
		return nil, errors.Join(err, sys.Close(context.WithoutCancel(ctx)))
	}
	return sys, nil
}

// starter builds the steps of a plan, each in its own goroutine.
type starter struct {
	sys    *System
	cancel context.CancelCauseFunc
	done   map[*step]chan struct{}
}

// failure joins the errors of the required providers that failed by
// themselves, or of all required ones if they only lack others.
func (s *starter) failure() error {
	var own, lacking []error
	for _, st := range s.sys.steps {
		state := s.sys.state(st)
		if !st.scope.required || state.status == graph.OK {
			continue
		}
		var miss *lackError
		switch err := fmt.Errorf("%s: %w", st.id(), state.err); {
		case errors.As(state.err, &miss) && miss.required:
			lacking = append(lacking, err)
		case errors.Is(state.err, errCancelled):
			lacking = append(lacking, err)
		default:
			own = append(own, err)
		}
	}
	if len(own) > 0 {
		return errors.Join(own...)
	}
	return errors.Join(lacking...)
}

// errCancelled is the state of what was not begun since something else failed.
var errCancelled = errors.New("not started, since a required plugin failed")

// lackError says that a provider can't start since another one didn't.
type lackError struct {
	id       string
	why      string
	required bool // the other one is required itself
	skip     bool // the other one skipped itself
}

func (e *lackError) Error() string {
	return fmt.Sprintf("needs %s, which did not start: %s", e.id, e.why)
}

func (s *starter) run(ctx context.Context, st *step) {
	defer close(s.done[st])
	if st.off != "" {
		return
	}
	for _, n := range st.scope.needs {
		for _, c := range n.candidates {
			if c != st {
				<-s.done[c]
			}
		}
	}
	if err := s.lack(st); err != nil {
		s.end(st, state{status: graph.Failed, err: err})
		return
	}
	if ctx.Err() != nil {
		s.end(st, state{status: graph.Failed, err: errCancelled})
		return
	}
	s.sys.set(st, state{status: graph.Starting})
	begin := time.Now()
	value, err := guarded(ctx, st)
	took := time.Since(begin)
	switch {
	case err == nil:
		s.end(st, state{status: graph.OK, value: value, took: took})
	case IsSkip(err):
		s.end(st, state{status: graph.Skipped, err: err, took: took})
	default:
		s.end(st, state{status: graph.Failed, err: err, took: took})
	}
}

// end records what became of st, and stops the others if that is fatal.
func (s *starter) end(st *step, state state) {
	s.sys.set(st, state)
	if st.scope.required && state.status != graph.OK {
		s.cancel(errCancelled)
	}
}

// lack returns why a need of st is not met, nil if all are.
func (s *starter) lack(st *step) error {
	for _, n := range st.scope.needs {
		if !n.mode.must() {
			continue
		}
		met := false
		for range s.sys.working(n) {
			met = true
			break
		}
		if !met {
			return s.lacking(n)
		}
	}
	return nil
}

func (s *starter) lacking(n *need) error {
	first := n.candidates[0]
	state := s.sys.state(first)
	e := &lackError{id: first.id(), required: first.scope.required, skip: state.status == graph.Skipped}
	if state.err != nil {
		e.why = state.err.Error()
	}
	return e
}

// guarded builds st's value.
func guarded(ctx context.Context, st *step) (value any, err error) {
	err = guard("build", func() error {
		value, err = st.build(ctx)
		return err
	})
	return value, err
}

// guard turns a panic of a provider's code into an error: one broken plugin
// must not take the daemon, and the containers' console, with it.
func guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in %s: %v\n%s", what, p, debug.Stack())
		}
	}()
	return f()
}
