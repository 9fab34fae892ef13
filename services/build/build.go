// Package build builds images with BuildKit as a library, over the daemon's own
// stores: what a build pulls, makes and keeps is there once, and a finished image is in
// the image store without being moved.
//
// # Who keeps what
//
// Blobs, snapshots, leases and images are the daemon's, in the namespace "default".
// BuildKit's own are small databases below [Config].Root: which step has which result
// (cache.db), what is known of snapshots (metadata_v2.db), and past builds (history.db).
//
// # Doors
//
// Everything goes through one solver: its gRPC API serves buildx and buildctl
// ([Builder.Serve]), sessions of clients carry their files and secrets
// ([Builder.Session]), and [Builder.Classic] speaks for clients without either.
//
// A Builder is opened when it is first used, since the databases and the solver take
// time and memory that a daemon without builds needn't spend. It is safe for
// concurrent use.
package build

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/grpcerrors"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/userns"
	networks "github.com/orlop/orlop/services/network"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/snapshotters"
)

// Parts are what a builder works with.
type Parts struct {
	Content  content.Store
	Images   image.Store
	Leases   lease.Manager
	Applier  diff.Applier
	Comparer diff.Comparer
	// Snapshots finds the snapshotter of a name.
	Snapshots func(name string) (snapshotters.Snapshotter, error)
	// Collect removes what nothing refers to.
	Collect func(context.Context) error
	// Networks is nil where there is no network but the host's and none.
	Networks *networks.Service
	// Users are the ids of containers' users where they aren't the host's, and then those
	// of steps; nil is the host's.
	Users *userns.Maps
	// Endpoints finds where a registry is; nil is BuildKit's own rule.
	Endpoints func(host string) ([]remote.Endpoint, error)
}

// Config is how a builder works.
type Config struct {
	// Root is the folder of its databases, State one that need not outlive a boot.
	Root, State string
	// Temp is the folder of the process for temporary files (TMPDIR), in which BuildKit
	// mounts trees and secrets. It is emptied by [Builder.Sweep]; empty leaves it alone.
	Temp string
	// Snapshotter is what trees are kept by.
	Snapshotter string
	// Runtime is the program, with runc's command line, that runs steps.
	Runtime string
	// Cache bounds what is kept for later builds, in bytes; 0 is BuildKit's own rule.
	Cache int64
	// Parallel bounds steps that run at once; 0 is no bound.
	Parallel int64
	// ContextBytes and ContextEntries bound what a context that comes as an archive is
	// when it is unpacked; 0 is no bound.
	ContextBytes, ContextEntries int64
	// Insecure allows builds to ask for all privileges, Host for the host's network.
	Insecure, Host bool
}

// Builder builds images.
type Builder struct {
	cfg   Config
	parts Parts

	mu     sync.Mutex
	opened *opened
	closed bool
}

// opened is a builder at work.
type opened struct {
	control  *control.Controller
	sessions *session.Manager
	worker   *worker
	trimmer  *trimmer
	grpc     *grpc.Server
	http     http.Handler
	closers  []func() error
	stop     chan struct{}
}

// New makes a builder that is opened later.
func New(cfg Config, parts Parts) (*Builder, error) {
	if cfg.Cache < 0 || cfg.Parallel < 0 {
		return nil, errors.New("a builder's bounds can't be negative")
	}
	return &Builder{cfg: cfg, parts: parts}, nil
}

// errClosed says that the daemon is ending.
var errClosed = errors.New("the builder is closed")

// open opens the builder if that hasn't been done.
func (b *Builder) open() (*opened, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	if b.opened != nil {
		return b.opened, nil
	}
	for _, dir := range []string{b.cfg.Root, b.cfg.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	o, err := assemble(b.cfg, b.parts)
	if err != nil {
		return nil, err
	}
	b.opened = o
	return o, nil
}

// Opened tells whether anybody has built since the daemon's start.
func (b *Builder) Opened() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened != nil
}

// Used tells whether there are databases of an earlier run.
func (b *Builder) Used() bool {
	_, err := os.Stat(filepath.Join(b.cfg.Root, cacheFile))
	return err == nil
}

// Close ends builds and closes databases.
func (b *Builder) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.opened == nil {
		return nil
	}
	return b.opened.close()
}

func (o *opened) close() error {
	close(o.stop)
	o.grpc.Stop()
	<-o.trimmer.ended
	errs := []error{o.control.Close()}
	for _, fn := range o.closers {
		errs = append(errs, fn())
	}
	return errors.Join(errs...)
}

// services makes the gRPC server of the solver.
func (o *opened) services(temp string) {
	o.trimmer = newTrimmer(o.worker, temp)
	go o.trimmer.run(o.stop)
	o.grpc = grpc.NewServer(grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, o.trimmer.intercept), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	o.control.Register(o.grpc)
	grpc_health_v1.RegisterHealthServer(o.grpc, health.NewServer())
	o.http = o.grpc
}

// maxMessage bounds a message of the API, in bytes; it is BuildKit's.
const maxMessage = 16 << 20

// Serve speaks gRPC on a connection until it ends.
func (b *Builder) Serve(ctx context.Context, conn net.Conn) error {
	o, err := b.open()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	(&http2.Server{IdleTimeout: idleWait}).ServeConn(conn, &http2.ServeConnOpts{Context: ctx, Handler: o.http, BaseConfig: &http.Server{ErrorLog: connections}})
	return nil
}

// idleWait is when a connection on which nothing happens ends.
const idleWait = 10 * time.Minute

// Session takes a connection over, by which a client offers its files and secrets,
// until it ends.
func (b *Builder) Session(ctx context.Context, conn net.Conn, headers map[string][]string) error {
	o, err := b.open()
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return o.sessions.HandleConn(ctx, conn, headers)
}

// in puts the namespace of builds into a context.
func in(ctx context.Context) context.Context { return namespaces.With(ctx, namespaces.Default) }
