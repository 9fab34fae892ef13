// Package events delivers what happened to whoever wants to know.
//
// # Ordering and slow subscribers
//
// Events of one publisher reach every subscriber in order. Each subscriber has a
// bounded queue; one that lets it fill up is cut off with ResourceExhausted
// rather than waited for, because a publisher may hold a lock or be a container
// on its way out. Nothing is kept across a restart.
package events

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/namespaces"
)

// queueLength is how many events a subscriber may lag behind.
const queueLength = 8192

var errBehind = fmt.Errorf("the subscriber is more than %d events behind: %w", queueLength, errdefs.ErrResourceExhausted)

// Exchange is an event bus. The zero value is ready; it is safe for concurrent use.
type Exchange struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

var (
	_ event.Publisher  = (*Exchange)(nil)
	_ event.Forwarder  = (*Exchange)(nil)
	_ event.Subscriber = (*Exchange)(nil)
)

type subscription struct {
	filter filter.Any
	queue  chan *event.Envelope
	full   chan struct{} // closed when the subscriber is cut off
}

// Publish stamps ev and delivers it in the context's namespace.
func (x *Exchange) Publish(ctx context.Context, topic string, ev any) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return fmt.Errorf("event %s: %w", topic, err)
	}
	if err := event.ValidateTopic(topic); err != nil {
		return err
	}
	encoded, ok := ev.(typeurl.Any)
	if !ok {
		if encoded, err = typeurl.MarshalAny(ev); err != nil {
			return fmt.Errorf("event %s: %w", topic, err)
		}
	}
	x.deliver(&event.Envelope{Timestamp: time.Now().UTC(), Namespace: ns, Topic: topic, Event: encoded})
	return nil
}

// Forward delivers an event as somebody else stamped it.
func (x *Exchange) Forward(_ context.Context, env *event.Envelope) error {
	if err := namespaces.Validate(env.Namespace); err != nil {
		return fmt.Errorf("forwarded event: %w", err)
	}
	if err := event.ValidateTopic(env.Topic); err != nil {
		return err
	}
	if env.Timestamp.IsZero() {
		return fmt.Errorf("forwarded event %s has no time: %w", env.Topic, errdefs.ErrInvalidArgument)
	}
	x.deliver(env)
	return nil
}

func (x *Exchange) deliver(env *event.Envelope) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for s := range x.subs {
		if !s.filter.Match(env.Field) {
			continue
		}
		select {
		case s.queue <- env:
		default:
			delete(x.subs, s)
			close(s.full)
		}
	}
}

// Subscribe delivers events until ctx ends; then both channels are closed.
func (x *Exchange) Subscribe(ctx context.Context, filters ...string) (<-chan *event.Envelope, <-chan error) {
	out, errs := make(chan *event.Envelope), make(chan error, 1)
	f, err := filter.Parse(filters...)
	if err != nil {
		errs <- err
		close(errs)
		close(out)
		return out, errs
	}
	s := &subscription{filter: f, queue: make(chan *event.Envelope, queueLength), full: make(chan struct{})}
	x.mu.Lock()
	if x.subs == nil {
		x.subs = map[*subscription]struct{}{}
	}
	x.subs[s] = struct{}{}
	x.mu.Unlock()
	go func() {
		defer close(out)
		defer close(errs)
		defer x.drop(s)
		errs <- s.pump(ctx, out)
	}()
	return out, errs
}

func (x *Exchange) drop(s *subscription) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.subs, s)
}

func (s *subscription) pump(ctx context.Context, out chan<- *event.Envelope) error {
	for {
		select {
		case env := <-s.queue:
			select {
			case out <- env:
			case <-ctx.Done():
				return nil
			case <-s.full:
				return errBehind
			}
		case <-ctx.Done():
			return nil
		case <-s.full:
			return errBehind
		}
	}
}
