// Package streaming keeps the streams that clients open beside a call and name in
// it: for progress, credentials and archives.
//
// # Lifecycle
//
// A client opens a stream under a name that it makes up; it is registered in the
// client's namespace until a call claims it by the name, once, or, if none does,
// for a while. Whoever claimed a stream closes it. A client that vanishes ends its
// streams by their contexts. Nothing survives the daemon.
//
// # Bounds
//
// The number of open streams, the length of their names and the time that one
// waits to be claimed are bounded. A Manager is safe for concurrent use.
package streaming

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/orlop/orlop/core/namespaces"
)

// maxName bounds a stream's name, in bytes.
const maxName = 256

// Stream is one stream of messages, both ways. Send and Recv may be called at the
// same time, each by one goroutine.
type Stream interface {
	// Send sends a message; it may wait for the other side.
	Send(typeurl.Any) error
	// Recv waits for the next message; io.EOF says that no more come.
	Recv() (typeurl.Any, error)
	// Close ends the stream; it may be called more than once.
	Close() error
}

// Config bounds streams.
type Config struct {
	// MaxStreams is how many may be open at once.
	MaxStreams int `toml:"max_streams"`
	// ClaimTimeout is how long one waits for the call that is to use it.
	ClaimTimeout time.Duration `toml:"claim_timeout"`
}

// DefaultConfig is what an empty config means. A pull opens two streams; a client
// opens its streams just before the call.
func DefaultConfig() Config { return Config{MaxStreams: 1024, ClaimTimeout: time.Minute} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxStreams < 1 || c.ClaimTimeout <= 0 {
		return fmt.Errorf("max_streams is %d and claim_timeout %v, they must be positive", c.MaxStreams, c.ClaimTimeout)
	}
	return nil
}

// Manager keeps streams.
type Manager struct {
	cfg Config

	mu   sync.Mutex
	open map[string]*entry
}

type entry struct {
	stream  Stream
	claimed bool
}

// New makes a Manager.
func New(cfg Config) *Manager { return &Manager{cfg: cfg, open: map[string]*entry{}} }

func key(ctx context.Context, name string) (string, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return "", err
	}
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("stream name of %d bytes, 1 to %d are allowed: %w", len(name), maxName, errdefs.ErrInvalidArgument)
	}
	return ns + "/" + name, nil
}

// Register makes a stream known by its name until it is over, which the returned
// function says. A stream that nobody claims in time is closed.
func (m *Manager) Register(ctx context.Context, name string, s Stream) (over func(), err error) {
	k, err := key(ctx, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.open[k]; ok {
		return nil, fmt.Errorf("stream %q: %w", name, errdefs.ErrAlreadyExists)
	}
	if len(m.open) >= m.cfg.MaxStreams {
		return nil, fmt.Errorf("stream %q: %d streams are open already (max_streams): %w", name, len(m.open), errdefs.ErrResourceExhausted)
	}
	e := &entry{stream: s}
	m.open[k] = e
	timer := time.AfterFunc(m.cfg.ClaimTimeout, func() {
		m.mu.Lock()
		idle := !e.claimed
		e.claimed = true
		m.mu.Unlock()
		if idle {
			s.Close()
		}
	})
	return func() {
		timer.Stop()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.open, k)
	}, nil
}

// Claim hands out a stream to the one call that uses it.
func (m *Manager) Claim(ctx context.Context, name string) (Stream, error) {
	k, err := key(ctx, name)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.open[k]
	switch {
	case !ok:
		return nil, fmt.Errorf("stream %q: %w", name, errdefs.ErrNotFound)
	case e.claimed:
		return nil, fmt.Errorf("stream %q is in use or was waiting too long: %w", name, errdefs.ErrFailedPrecondition)
	}
	e.claimed = true
	return e.stream, nil
}
