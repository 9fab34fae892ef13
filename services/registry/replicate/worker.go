package replicate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/core/registry"
)

// worker works off the queue of one rule.
type worker struct {
	rule  Rule
	parts Parts
	woken chan struct{}

	mu    sync.Mutex // guards what is below
	state Status
}

func newWorker(rule Rule, parts Parts) (*worker, error) {
	if err := rule.Validate(); err != nil {
		return nil, err
	}
	if rule.Parallel == 0 {
		rule.Parallel = DefaultParallel
	}
	if rule.First == 0 {
		rule.First = DefaultFirst
	}
	if rule.Last == 0 {
		rule.Last = DefaultLast
	}
	return &worker{rule: rule, parts: parts, woken: make(chan struct{}, 1), state: Status{Name: rule.Name, Target: rule.Host + "/" + rule.Prefix}}, nil
}

func (w *worker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *worker) status(ctx context.Context) (Status, error) {
	q, err := w.parts.Outbox.Waiting(ctx, w.rule.Name)
	if err != nil {
		return Status{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.state
	out.Waiting, out.Failing, out.Survey = q.Errands, q.Failing, q.Survey
	if !q.Oldest.IsZero() {
		out.Oldest = &q.Oldest
	}
	if out.Error == "" {
		out.Error = q.Error
	}
	return out, nil
}

// note changes what is told of the rule.
func (w *worker) note(fn func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(&w.state)
}

// run works until the context ends: what is due first, then a step of the survey.
func (w *worker) run(ctx context.Context) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		before := w.moved()
		more, err := w.round(ctx)
		if w.moved() > before {
			pause = 0 // the target comes and goes: what it takes while it is there counts
		}
		switch {
		case err == nil:
			pause = 0
			w.note(func(s *Status) { s.Error = "" })
		case ctx.Err() == nil:
			if pause = min(max(2*pause, w.rule.First), maxPause); pause == w.rule.First {
				log.L.WithError(err).Warnf("registry: replication %s waits", w.rule.Name)
			}
			w.note(func(s *Status) { s.Error = err.Error() })
		}
		if !more || err != nil {
			w.wait(ctx, pause)
		}
	}
}

// moved grows with each blob, manifest or deletion that the target has taken.
func (w *worker) moved() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Bytes + w.state.Deleted
}

// wait waits for something new, for what is due next, or, after an error, for a time.
func (w *worker) wait(ctx context.Context, pause time.Duration) {
	woken := w.woken
	if pause > 0 {
		woken = nil // what is new can't be told either
	} else {
		pause = w.rule.Last
		if q, err := w.parts.Outbox.Waiting(ctx, w.rule.Name); err == nil && q.Errands > 0 {
			pause = min(pause, max(time.Until(q.Next), 10*time.Millisecond))
		}
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-t.C:
	}
}

// round does what is due, and tells whether there may be more. An error is one that
// concerns all: the target can't be reached, or the database can't be read.
func (w *worker) round(ctx context.Context) (more bool, err error) {
	due, err := w.parts.Outbox.Due(ctx, w.rule.Name, time.Now(), batch)
	if err != nil {
		return false, err
	}
	if err := w.all(ctx, due); err != nil {
		return false, err
	}
	if len(due) == batch {
		return true, nil
	}
	surveying, err := w.survey(ctx)
	return surveying || len(due) > 0, err
}

// all does errands side by side. It stops at the first error that concerns all.
func (w *worker) all(ctx context.Context, due []registry.Errand) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var g sync.WaitGroup
	var once sync.Once
	var failed error
	slots := make(chan struct{}, w.rule.Parallel)
	for _, e := range due {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() {
			defer func() { <-slots }()
			if err := w.one(ctx, e); err != nil {
				once.Do(func() { failed = err; stop() })
			}
		})
	}
	g.Wait()
	return failed
}

// one does an errand and settles it.
func (w *worker) one(ctx context.Context, e registry.Errand) error {
	err := w.tell(ctx, e)
	switch {
	case err == nil, errdefs.IsNotImplemented(err):
		if err != nil {
			log.L.WithError(err).Warnf("registry: replication %s: %s:%s stays at the target", w.rule.Name, e.Repository, e.Reference)
		}
		now := time.Now()
		w.note(func(s *Status) { s.Last = &now })
		return w.parts.Outbox.Done(context.WithoutCancel(ctx), w.rule.Name, e)
	case !refusal(err):
		return err
	}
	e.Tries++
	e.Next, e.Error = time.Now().Add(w.later(e.Tries)).UTC(), err.Error()
	if e.Since.IsZero() {
		e.Since = time.Now().UTC()
	}
	log.L.WithError(err).Warnf("registry: replication %s: %s:%s is tried again at %s", w.rule.Name, e.Repository, e.Reference, e.Next.Format(time.TimeOnly))
	w.note(func(s *Status) { s.Refused++ })
	return w.parts.Outbox.Failed(context.WithoutCancel(ctx), w.rule.Name, e)
}

// atOnce is how often a step is tried before the target counts as out of reach: a
// connection may break, and what many steps have come to isn't lost for one of them.
const atOnce = 3

// persist tries a step a few times.
func (w *worker) persist(ctx context.Context, step func() error) error {
	for try := 1; ; try++ {
		err := step()
		if err == nil || refusal(err) || errdefs.IsNotImplemented(err) || try == atOnce {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(w.rule.First):
		}
	}
}

// later is how long to wait after so many tries: twice as long each time.
func (w *worker) later(tries int) time.Duration {
	wait := w.rule.First
	for range min(tries-1, 30) {
		wait *= 2
	}
	return min(wait, w.rule.Last)
}

// refusal tells an error about one reference from one of the way to the target.
func refusal(err error) bool {
	if errors.Is(err, context.Canceled) || errdefs.IsUnavailable(err) {
		return false
	}
	for _, is := range []func(error) bool{errdefs.IsPermissionDenied, errdefs.IsUnauthorized, errdefs.IsNotFound, errdefs.IsInvalidArgument,
		errdefs.IsFailedPrecondition, errdefs.IsAlreadyExists, errdefs.IsDataLoss, errdefs.IsOutOfRange, errdefs.IsUnknown} {
		if is(err) {
			return true
		}
	}
	return false
}

// survey looks at one repository, and tells whether there are more.
func (w *worker) survey(ctx context.Context) (more bool, err error) {
	q, err := w.parts.Outbox.Waiting(ctx, w.rule.Name)
	if err != nil || !q.Survey {
		return false, err
	}
	names, err := w.parts.Catalog.Repositories(ctx, registry.Page{After: q.After, N: 1})
	if err != nil {
		return false, err
	}
	if len(names) == 0 {
		return false, w.parts.Outbox.Surveyed(ctx, w.rule.Name, registry.Step{From: q.After, Done: true})
	}
	if err := w.repository(ctx, names[0]); err != nil && !errdefs.IsNotFound(err) {
		return false, err
	}
	return true, w.parts.Outbox.Surveyed(ctx, w.rule.Name, registry.Step{From: q.After, After: names[0]})
}

// repository tells all that a repository has: tags, and what refers to manifests.
func (w *worker) repository(ctx context.Context, repo string) error {
	var errands []registry.Errand
	add := func(reference string) {
		if w.rule.takes(repo, reference) {
			errands = append(errands, registry.Errand{Repository: repo, Reference: reference})
		}
	}
	for after := ""; ; {
		tags, err := w.parts.Catalog.Tags(ctx, repo, registry.Page{After: after, N: batch})
		if err != nil {
			return err
		}
		for _, t := range tags {
			after = t.Name
			add(t.Name)
		}
		if err := w.all(ctx, errands); err != nil {
			return err
		}
		if errands = nil; len(tags) < batch {
			break
		}
	}
	found, err := w.parts.Catalog.Manifests(ctx, repo, registry.Page{})
	if err != nil {
		return err
	}
	for _, m := range found {
		if m.Subject != "" {
			add(m.Digest.String())
		}
	}
	return w.all(ctx, errands)
}
