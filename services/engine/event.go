package engine

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	wire "github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/worded"
)

// Event is something that happened to a container or an image.
type Event struct {
	Type, Action string
	ID           string
	Attributes   map[string]string
	Time         time.Time
}

const (
	// keptEvents is how many past events are kept, Docker's number.
	keptEvents = 256
	// queuedEvents is how far a reader may lag behind before it is let go.
	queuedEvents = 1024
)

// journal keeps the last events and hands new ones to readers.
type journal struct {
	mu      sync.Mutex
	past    []Event
	readers map[chan Event]struct{} // closed for one that lags behind
	closed  bool
}

func newJournal() *journal { return &journal{readers: map[chan Event]struct{}{}} }

func (j *journal) add(ev Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.past) >= keptEvents {
		j.past = slices.Delete(j.past, 0, 1)
	}
	j.past = append(j.past, ev)
	for r := range j.readers {
		select {
		case r <- ev:
		default:
			delete(j.readers, r)
			close(r)
		}
	}
}

func (j *journal) open() (past []Event, next chan Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	next = make(chan Event, queuedEvents)
	if j.closed {
		close(next)
		return nil, next
	}
	j.readers[next] = struct{}{}
	return slices.Clone(j.past), next
}

func (j *journal) drop(r chan Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.readers, r)
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for r := range j.readers {
		delete(j.readers, r)
		close(r)
	}
}

// EventQuery chooses events.
type EventQuery struct {
	Since, Until time.Time
	Filters      Filters
}

// Events calls fn for events until the query or the context ends, the past ones
// first if the query begins in the past.
func (e *Engine) Events(ctx context.Context, q EventQuery, fn func(Event) error) error {
	past, next := e.events.open()
	defer e.events.drop(next)
	if !q.Since.IsZero() || !q.Until.IsZero() {
		for _, ev := range past {
			if ev.Time.Before(q.Since) || !q.Until.IsZero() && ev.Time.After(q.Until) || !q.Filters.fitEvent(ev) {
				continue
			}
			if err := fn(ev); err != nil {
				return err
			}
		}
	}
	var over <-chan time.Time
	if !q.Until.IsZero() {
		t := time.NewTimer(time.Until(q.Until))
		defer t.Stop()
		over = t.C
	}
	for {
		select {
		case ev, ok := <-next:
			if !ok {
				return worded.New(errdefs.ErrUnavailable, "events come faster than they are read, or the daemon stops")
			}
			if q.Filters.fitEvent(ev) {
				if err := fn(ev); err != nil {
					return err
				}
			}
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// EventFilters are the kinds of filters that events have.
var EventFilters = []string{"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope",
	"secret", "service", "type", "volume"}

func (f Filters) fitEvent(ev Event) bool {
	action, _, _ := strings.Cut(ev.Action, ":")
	return f.is("type", ev.Type) && f.is("event", ev.Action, action) && f.is("scope", "local") && f.labels(ev.Attributes) &&
		f.fitActor("container", ev, ev.ID, ev.Attributes["name"]) &&
		f.fitActor("image", ev, ev.ID, ev.Attributes["name"], ev.Attributes["image"]) &&
		f.fitActor("volume", ev, ev.ID) && f.fitActor("network", ev, ev.ID, ev.Attributes["name"]) && f.fitActor("daemon", ev) && f.fitActor("plugin", ev)
}

// fitActor tells whether an event is about the things that a filter names.
func (f Filters) fitActor(kind string, ev Event, names ...string) bool {
	if !f.has(kind) {
		return true
	}
	if kind != "image" && ev.Type != kind {
		return false
	}
	for _, want := range f[kind] {
		for i, name := range names {
			untagged, _, _ := strings.Cut(name, ":")
			if name == want || i > 0 && kind == "image" && untagged == want || i == 0 && (kind == "container" || kind == "network") && strings.HasPrefix(name, want) {
				return true
			}
		}
	}
	return false
}

// tell tells what happened to a container; more are attributes beside its labels.
func (e *Engine) tell(c *Container, action string, more ...string) {
	config, _ := c.config()
	attrs := maps.Clone(config.Labels)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["name"], attrs["image"] = c.name(), config.Image
	for i := 0; i+1 < len(more); i += 2 {
		attrs[more[i]] = more[i+1]
	}
	e.events.add(Event{Type: "container", Action: action, ID: c.ID, Attributes: attrs, Time: now()})
}

func (e *Engine) tellImage(action, id, name string) {
	e.events.add(Event{Type: "image", Action: action, ID: id, Attributes: map[string]string{"name": name}, Time: now()})
}

// listen takes from the bus what the engine can't know by itself.
func (e *Engine) listen() {
	for e.life.Err() == nil {
		next, errs := e.Bus.Subscribe(e.life, "topic==/tasks/oom")
		for env := range next {
			if env.Namespace != namespaces.Default {
				continue
			}
			ev, err := typeurl.UnmarshalAny(env.Event)
			if oom, ok := ev.(*wire.TaskOOM); err == nil && ok {
				e.oom(oom.ContainerID)
			}
		}
		<-errs // it lagged behind
	}
}

func (e *Engine) oom(id string) {
	e.mu.Lock()
	c := e.byID[id]
	e.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	c.rec.State.OOMKilled = true
	c.mu.Unlock()
	e.tell(c, "oom")
}

// code is an exit code as an attribute.
func code(n int) string { return strconv.Itoa(n) }
