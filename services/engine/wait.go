package engine

import (
	"context"
	"time"
)

// WaitFor says what is waited for.
type WaitFor string

// What can be waited for; Docker's words.
const (
	NotRunning WaitFor = "not-running"
	NextExit   WaitFor = "next-exit"
	Removed    WaitFor = "removed"

	// nextCode is an attachment's: the exit code is known, and of a container that stays
	// nothing is left to do.
	nextCode WaitFor = "next-code"
)

// moment is what has happened.
type moment int

const (
	waitCode moment = iota // of a container that is about to remove itself
	waitExit
	waitRemoved
)

// Waiter waits for a container's end.
type Waiter struct {
	c    *Container
	what WaitFor
	done chan State
}

// Wait begins to wait; what happens from now on is not missed. The waiter must be
// closed.
func (e *Engine) Wait(ref string, what WaitFor) (*Waiter, error) {
	switch what {
	case "":
		what = NotRunning
	case NotRunning, NextExit, Removed:
	default:
		return nil, invalid("invalid condition: %q", what)
	}
	c, err := e.lookup(ref)
	if err != nil {
		return nil, err
	}
	w := newWaiter(c, what)
	c.mu.Lock()
	defer c.mu.Unlock()
	if what == NotRunning && !c.rec.State.Running && !c.rec.State.Restarting {
		w.done <- c.rec.State
		return w, nil
	}
	c.waiters[w] = struct{}{}
	return w, nil
}

// newWaiter makes one that nobody tells anything yet.
func newWaiter(c *Container, what WaitFor) *Waiter {
	return &Waiter{c: c, what: what, done: make(chan State, 1)}
}

// within waits until it has happened, and no longer than that.
func (w *Waiter) within(ctx context.Context, bound time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	w.Done(ctx)
}

// Done waits until it has happened and returns the container's state then.
func (w *Waiter) Done(ctx context.Context) (State, error) {
	select {
	case s := <-w.done:
		return s, nil
	case <-ctx.Done():
		return State{}, ctx.Err()
	}
}

// Close ends waiting.
func (w *Waiter) Close() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	delete(w.c.waiters, w)
}

// fire tells waiters of an exit code, an exit, or the container's removal.
func (c *Container) fire(m moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.what == Removed && m != waitRemoved || w.what != nextCode && m == waitCode {
			continue
		}
		delete(c.waiters, w)
		w.done <- c.rec.State
	}
}
