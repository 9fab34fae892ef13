package together_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/orlop/orlop/core/together"
)

// store commits what is queued when it is told to.
type store struct {
	queued  atomic.Int32
	commits []int32
}

func (s *store) write(ctx context.Context) {
	done := make(chan struct{})
	s.queued.Add(1)
	together.Arrive(ctx, func() {
		if n := s.queued.Swap(0); n > 0 {
			s.commits = append(s.commits, n)
		}
		close(done)
	})
	<-done
}

func TestOneCommitForAll(t *testing.T) {
	var s store
	errs := together.Do(t.Context(),
		func(ctx context.Context) error { s.write(ctx); return nil },
		func(ctx context.Context) error { s.write(ctx); return errors.New("mine") },
		func(ctx context.Context) error { return errors.New("wrote nothing") })
	if len(s.commits) != 1 || s.commits[0] != 2 {
		t.Errorf("commits of %v writes, want one of 2", s.commits)
	}
	if errs[0] != nil || errs[1].Error() != "mine" || errs[2].Error() != "wrote nothing" {
		t.Errorf("errors: %v", errs)
	}
}

func TestSecondWriteAndStrangersDontWait(t *testing.T) {
	var s store
	s.write(t.Context())
	hold := make(chan struct{})
	together.Do(t.Context(),
		func(ctx context.Context) error {
			s.write(ctx) // the other returns without one
			s.write(ctx)
			close(hold)
			return nil
		},
		func(context.Context) error { return nil })
	<-hold
	if !slices.Equal(s.commits, []int32{1, 1, 1}) {
		t.Errorf("commits of %v writes, want 1, 1, 1", s.commits)
	}
}
