// Package grpc is the containerd-shaped edge of the daemon: it decodes a
// request, makes one call of a use-case and encodes the answer. It decides
// nothing. Errors cross it in one interceptor (errors.go), namespaces and leases
// come from headers there too.
package grpc

import (
	"context"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
)

// MaxMessage is the largest message, in bytes; it is containerd's, and clients
// size their writes by it.
const MaxMessage = 16 << 20

// Service registers itself with a server.
type Service interface {
	Register(s grpc.ServiceRegistrar)
}

// NewServer makes a server with the edge's interceptors and the given services.
// Messages may have [MaxMessage] bytes unless the options say otherwise.
func NewServer(services []Service, opts ...grpc.ServerOption) *grpc.Server {
	opts = append([]grpc.ServerOption{grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage)}, opts...)
	opts = append(opts,
		grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream))
	s := grpc.NewServer(opts...)
	for _, svc := range services {
		svc.Register(s)
	}
	return s
}

func unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	resp, err := handle(fromHeaders(ctx), req)
	if err != nil {
		return nil, errgrpc.ToGRPC(err)
	}
	return resp, nil
}

func stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return errgrpc.ToGRPC(handle(srv, &headerStream{ss, fromHeaders(ss.Context())}))
}

type headerStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *headerStream) Context() context.Context { return s.ctx }

// fromHeaders moves namespace and lease from the request's headers to its context.
func fromHeaders(ctx context.Context) context.Context {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return ctx
	}
	if v := md.Get(namespaces.Header); len(v) > 0 {
		ctx = namespaces.With(ctx, v[0])
	}
	if v := md.Get(lease.Header); len(v) > 0 {
		ctx = lease.With(ctx, v[0])
	}
	return ctx
}
