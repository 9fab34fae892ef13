package grpc

import (
	"fmt"
	"io"
	"sync"
	"time"

	wire "github.com/containerd/containerd/api/services/streaming/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/services/streaming"
)

// initWait is how long a client may take to name the stream that it has opened.
const initWait = 10 * time.Second

// Streaming serves the streaming service.
type Streaming struct {
	wire.UnimplementedStreamingServer
	Manager *streaming.Manager
}

// Register implements Service.
func (s *Streaming) Register(r grpc.ServiceRegistrar) { wire.RegisterStreamingServer(r, s) }

// Stream registers a stream under the name in its first message, says so by an
// empty one, and lives until it is closed or the client goes.
func (s *Streaming) Stream(srv wire.Streaming_StreamServer) error {
	first, err := receiveFirst(srv)
	if err != nil {
		return err
	}
	var init wire.StreamInit
	if err := fromAny(first, &init); err != nil {
		return err
	}
	st := &namedStream{srv: srv, closed: make(chan struct{})}
	over, err := s.Manager.Register(srv.Context(), init.ID, st)
	if err != nil {
		return err
	}
	defer over()
	if err := st.Send(toAny(&emptypb.Empty{})); err != nil {
		return err
	}
	select {
	case <-st.closed:
		return nil
	case <-srv.Context().Done():
		return srv.Context().Err()
	}
}

// receiveFirst waits a bounded time for the first message.
func receiveFirst(srv wire.Streaming_StreamServer) (*anypb.Any, error) {
	type received struct {
		a   *anypb.Any
		err error
	}
	got := make(chan received, 1)
	go func() {
		a, err := srv.Recv()
		got <- received{a, err}
	}()
	timer := time.NewTimer(initWait)
	defer timer.Stop()
	select {
	case r := <-got:
		if r.err == io.EOF {
			r.err = fmt.Errorf("the stream ended before it was named: %w", errdefs.ErrInvalidArgument)
		}
		return r.a, r.err
	case <-timer.C:
		return nil, fmt.Errorf("the stream was not named within %v: %w", initWait, errdefs.ErrAborted)
	}
}

// fromAny reads a message of a known type.
func fromAny(a typeurl.Any, into proto.Message) error {
	if err := (&anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}).UnmarshalTo(into); err != nil {
		return fmt.Errorf("message of type %.100q: %w: %w", a.GetTypeUrl(), err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// toAny writes a message in the way of containerd's clients, whose type names are
// bare. Messages of ours always can be written.
func toAny(m proto.Message) *anypb.Any {
	data, _ := proto.Marshal(m)
	return &anypb.Any{TypeUrl: string(proto.MessageName(m)), Value: data}
}

// namedStream is a gRPC stream as a use-case sees it.
type namedStream struct {
	srv    wire.Streaming_StreamServer
	once   sync.Once
	closed chan struct{}
}

func (s *namedStream) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (s *namedStream) Send(a typeurl.Any) error {
	if s.isClosed() {
		return io.ErrClosedPipe
	}
	return s.srv.Send(protobuf.ToAny(a))
}

func (s *namedStream) Recv() (typeurl.Any, error) {
	if s.isClosed() {
		return nil, io.ErrClosedPipe
	}
	return s.srv.Recv()
}

// Close lets the handler return, which ends pending calls.
func (s *namedStream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
