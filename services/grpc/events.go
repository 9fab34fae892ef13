package grpc

import (
	"context"

	wire "github.com/containerd/containerd/api/services/events/v1"
	ttrpcwire "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/protobuf"
)

// EventBus is what the events service needs.
type EventBus interface {
	event.Publisher
	event.Forwarder
	event.Subscriber
}

// Events serves the events service.
type Events struct {
	wire.UnimplementedEventsServer
	Bus EventBus
}

// Register implements Service.
func (s *Events) Register(r grpc.ServiceRegistrar) { wire.RegisterEventsServer(r, s) }

// Publish stamps and delivers an event.
func (s *Events) Publish(ctx context.Context, r *wire.PublishRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Bus.Publish(ctx, r.Topic, r.Event)
}

// Forward delivers an event as it is.
func (s *Events) Forward(ctx context.Context, r *wire.ForwardRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Bus.Forward(ctx, protobuf.FromEnvelope(r.Envelope))
}

// Subscribe streams events until the client goes.
func (s *Events) Subscribe(r *wire.SubscribeRequest, out wire.Events_SubscribeServer) error {
	events, errs := s.Bus.Subscribe(out.Context(), r.Filters...)
	for env := range events {
		if err := out.Send(protobuf.ToEnvelope(env)); err != nil {
			return err
		}
	}
	return <-errs
}

// ShimEvents serves the ttrpc events service, by which shims report.
type ShimEvents struct{ Bus event.Forwarder }

// Forward delivers a shim's event.
func (s *ShimEvents) Forward(ctx context.Context, r *ttrpcwire.ForwardRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.Bus.Forward(ctx, protobuf.FromEnvelope(r.Envelope))
}
