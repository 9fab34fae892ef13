package grpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	ttrpcwire "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/internal/trust"
)

// Socket is where a door listens: a unix socket only its owner and group may use.
type Socket struct {
	Path     string
	UID, GID int
	// MaxRecv and MaxSend bound messages, in bytes; 0 is [MaxMessage].
	MaxRecv, MaxSend int
	// Watchers are told of every gRPC call.
	Watchers []stats.Handler
}

// options are the bounds of messages.
func (s Socket) options() []grpc.ServerOption {
	var opts []grpc.ServerOption
	if s.MaxRecv > 0 {
		opts = append(opts, grpc.MaxRecvMsgSize(s.MaxRecv))
	}
	if s.MaxSend > 0 {
		opts = append(opts, grpc.MaxSendMsgSize(s.MaxSend))
	}
	for _, w := range s.Watchers {
		opts = append(opts, grpc.StatsHandler(w))
	}
	return opts
}

// Listen takes the socket's place. A live daemon's socket is refused, a dead
// one's is replaced.
func (s Socket) Listen() (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o711); err != nil {
		return nil, err
	}
	if err := trust.Folder(filepath.Dir(s.Path)); err != nil {
		return nil, fmt.Errorf("socket %s: %w", s.Path, err)
	}
	if c, err := net.DialTimeout("unix", s.Path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("socket %s: another daemon listens there: %w", s.Path, errdefs.ErrAlreadyExists)
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", s.Path)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := errors.Join(os.Chmod(s.Path, 0o660), os.Chown(s.Path, s.UID, s.GID)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Server is a gRPC door.
type Server struct {
	socket Socket
	server *grpc.Server
}

// closeWait is how long calls under way may finish when the daemon stops.
const closeWait = 3 * time.Second

// Listen serves services, health and nothing else on a socket.
func Listen(sock Socket, services []Service) (*Server, error) {
	l, err := sock.Listen()
	if err != nil {
		return nil, err
	}
	s := &Server{socket: sock, server: NewServer(services, sock.options()...)}
	grpc_health_v1.RegisterHealthServer(s.server, health.NewServer())
	go func() {
		if err := s.server.Serve(l); err != nil {
			log.L.WithError(err).Error("the gRPC server stopped")
		}
	}()
	return s, nil
}

// Address is the socket's path.
func (s *Server) Address() string { return s.socket.Path }

// Close lets calls finish, for a while.
func (s *Server) Close() error {
	t := time.AfterFunc(closeWait, s.server.Stop)
	defer t.Stop()
	s.server.GracefulStop()
	return nil
}

// TTRPCServer is the door for shims' events.
type TTRPCServer struct {
	socket Socket
	server *ttrpc.Server
}

// ListenTTRPC serves the events service that shims report to.
func ListenTTRPC(sock Socket, bus event.Forwarder) (*TTRPCServer, error) {
	l, err := sock.Listen()
	if err != nil {
		return nil, err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		l.Close()
		return nil, err
	}
	ttrpcwire.RegisterTTRPCEventsService(server, &ShimEvents{Bus: bus})
	go func() {
		if err := server.Serve(context.Background(), l); err != nil && !errors.Is(err, ttrpc.ErrServerClosed) {
			log.L.WithError(err).Error("the ttrpc server stopped")
		}
	}()
	return &TTRPCServer{sock, server}, nil
}

// Address is the socket's path.
func (s *TTRPCServer) Address() string { return s.socket.Path }

// Close ends the server.
func (s *TTRPCServer) Close() error { return s.server.Close() }
