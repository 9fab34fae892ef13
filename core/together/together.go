// Package together lets writes that belong together be made durable at once, though
// they go to different stores: a container's record and its tree share one commit, and
// so one wait for the disk, where both stores stand on one database.
//
// Who writes says with [Do] that some functions are of one party. A store that commits
// in groups queues its write, and asks by [Arrive] when to commit: once every function
// of the party has come to a write of its own, or has returned.
//
// It is a matter of speed only. Nothing says that the writes are one transaction: a
// crash may leave one without the other where stores don't share a database.
package together

import (
	"context"
	"sync"
)

type key struct{}

// party is the functions of one Do.
type party struct {
	mu      sync.Mutex
	missing int
	waiting []func()
}

// seat is one function's place in a party. Only its first arrival counts.
type seat struct {
	party *party
	once  sync.Once
}

// Do runs the functions side by side, each with a context of the party, and returns
// their errors in the same order when all have returned. A function must not wait for
// what another one writes.
func Do(ctx context.Context, fns ...func(context.Context) error) []error {
	p := &party{missing: len(fns)}
	errs := make([]error, len(fns))
	var all sync.WaitGroup
	for i, fn := range fns {
		s := &seat{party: p}
		all.Go(func() {
			defer s.arrive(nil)
			errs[i] = fn(context.WithValue(ctx, key{}, s))
		})
	}
	all.Wait()
	return errs
}

// Arrive calls commit when the party of ctx is complete, in the goroutine that
// completes it; at once where ctx is of no party, or its function has arrived before.
// It doesn't wait: commit may be called before or after Arrive returns.
func Arrive(ctx context.Context, commit func()) {
	s, _ := ctx.Value(key{}).(*seat)
	if s == nil || !s.arrive(commit) {
		commit()
	}
}

// arrive reports whether this was the seat's first time; then commit, if not nil, is
// or will be called.
func (s *seat) arrive(commit func()) (first bool) {
	s.once.Do(func() {
		first = true
		s.party.arrive(commit)
	})
	return first
}

func (p *party) arrive(commit func()) {
	p.mu.Lock()
	if commit != nil {
		p.waiting = append(p.waiting, commit)
	}
	p.missing--
	var ready []func()
	if p.missing == 0 {
		ready, p.waiting = p.waiting, nil
	}
	p.mu.Unlock()
	for _, fn := range ready {
		fn()
	}
}
