package protobuf

import (
	"github.com/containerd/containerd/api/types"

	"github.com/orlop/orlop/core/event"
)

// ToEnvelope writes an event.
func ToEnvelope(e *event.Envelope) *types.Envelope {
	return &types.Envelope{Timestamp: ToTime(e.Timestamp), Namespace: e.Namespace, Topic: e.Topic, Event: ToAny(e.Event)}
}

// FromEnvelope reads an event.
func FromEnvelope(e *types.Envelope) *event.Envelope {
	return &event.Envelope{Timestamp: FromTime(e.GetTimestamp()), Namespace: e.GetNamespace(), Topic: e.GetTopic(), Event: FromAny(e.GetEvent())}
}
