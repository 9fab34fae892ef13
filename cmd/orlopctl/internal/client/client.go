// Package client speaks to the daemon for orlopctl: containerd's services and
// Orlop's own, over gRPC on a unix socket.
//
// A [Client] connects when the first call is made. It is safe for concurrent
// use. Everything it keeps on this machine (fifos, terminal modes) is taken
// away by the call that made it; after a crash of the program, a folder with
// fifos may stay in the state folder until the next reboot.
package client

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// DefaultAddress is the daemon's socket.
	DefaultAddress = "/run/orlop/orlopd.sock"
	// maxMessage is the size of messages that containerd's services may send.
	maxMessage = 16 << 20

	namespaceHeader = "containerd-namespace"
	leaseHeader     = "containerd-lease"
)

// Client is a connection to a daemon, in one namespace.
type Client struct {
	// Address is the daemon's socket.
	Address string
	// Namespace is sent with each call.
	Namespace string

	conn       *grpc.ClientConn
	background sync.WaitGroup // calls that nobody waits for
}

// New returns a client that connects at its first call.
func New(address, namespace string) (*Client, error) {
	path := strings.TrimPrefix(address, "unix://")
	if strings.Contains(path, "://") {
		return nil, fmt.Errorf("address %q is no unix socket", address)
	}
	// The passthrough scheme avoids the name resolver, and the dialler the
	// parsing of a unix target; no proxy and no service config are looked up.
	conn, err := grpc.NewClient("passthrough:///"+path, append(tracing(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)...)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}
	return &Client{Address: path, Namespace: namespace, conn: conn}, nil
}

// Connect begins to connect, so that it happens while something else is done.
func (c *Client) Connect() { c.conn.Connect() }

// Conn is what service clients are made with.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Close waits for calls made in the background, which have a limit, and ends the
// connection.
func (c *Client) Close() error {
	c.background.Wait()
	return c.conn.Close()
}

// Context is ctx with the client's namespace.
func (c *Client) Context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, namespaceHeader, c.Namespace)
}

// withLease is ctx with a lease: what calls make belongs to it.
func withLease(ctx context.Context, id string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, leaseHeader, id)
}

// pack makes an Any as containerd's services name their types: without a host.
func pack(m proto.Message) (*anypb.Any, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: b}, nil
}

// Unpack decodes an Any whatever its host part; ok is false if it is of
// another type.
func Unpack(a *anypb.Any, into proto.Message) (ok bool, err error) {
	if TypeName(a) != string(into.ProtoReflect().Descriptor().FullName()) {
		return false, nil
	}
	return true, proto.Unmarshal(a.GetValue(), into)
}

// TypeName is the type of an Any without its host part.
func TypeName(a *anypb.Any) string {
	url := a.GetTypeUrl()
	return url[strings.LastIndexByte(url, '/')+1:]
}

// both runs two functions side by side and returns the first one's error, else
// the second's.
func both(f, g func() error) error {
	done := make(chan error, 1)
	go func() { done <- g() }()
	err := f()
	if other := <-done; err == nil {
		err = other
	}
	return err
}

// cleanupTime bounds what is done after the caller's context has ended.
const cleanupTime = 10 * time.Second

// detached is ctx's values with a time of its own, for cleaning up after ctx
// has ended.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}
