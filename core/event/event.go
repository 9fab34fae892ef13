// Package event is the vocabulary of what happened. Events are typed messages in
// an envelope with a topic; delivery is in order for each subscriber, and a
// subscriber that is too slow is told so by an error, never waited for.
package event

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
)

// Envelope is one event on its way.
type Envelope struct {
	Timestamp time.Time
	Namespace string
	Topic     string // "/tasks/start"
	Event     typeurl.Any
}

// Publisher takes events in the context's namespace.
type Publisher interface {
	// Publish stamps and delivers ev, a message typeurl can encode.
	Publish(ctx context.Context, topic string, ev any) error
}

// Forwarder takes events that somebody else stamped.
type Forwarder interface {
	Forward(ctx context.Context, env *Envelope) error
}

// Subscriber hands out events of all namespaces.
type Subscriber interface {
	// Subscribe delivers the envelopes that match any filter until ctx ends. The
	// error channel gets at most one error.
	Subscribe(ctx context.Context, filters ...string) (<-chan *Envelope, <-chan error)
}

// Field lets filters look into an envelope: "namespace", "topic", and
// "event.<field>" where the message offers it.
func (e *Envelope) Field(path []string) (string, bool) {
	if len(path) == 0 {
		return "", false
	}
	switch path[0] {
	case "namespace":
		return e.Namespace, e.Namespace != ""
	case "topic":
		return e.Topic, e.Topic != ""
	case "event":
		decoded, err := typeurl.UnmarshalAny(e.Event)
		if err != nil {
			return "", false
		}
		if f, ok := decoded.(interface{ Field([]string) (string, bool) }); ok {
			return f.Field(path[1:])
		}
	}
	return "", false
}

// ValidateTopic checks that a topic is an absolute path of at least one part.
func ValidateTopic(topic string) error {
	if !strings.HasPrefix(topic, "/") || len(topic) < 2 {
		return fmt.Errorf("event topic %q must start with '/' and have a name: %w", topic, errdefs.ErrInvalidArgument)
	}
	return nil
}
