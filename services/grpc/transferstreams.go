package grpc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	types "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/protobuf"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/streaming"
)

const (
	// maxSteps bounds the steps that wait to be sent.
	maxSteps = 4096
	// finishWait is how long the last ones may take.
	finishWait = time.Second
	// credentialWait is how long a client may take to answer for a login; it may
	// have to ask somebody.
	credentialWait = 2 * time.Minute
	// maxLogins bounds for how many hosts one transfer logs in.
	maxLogins = 64
)

// transferCall is one call with the streams that it uses.
type transferCall struct {
	ctx     context.Context
	streams *streaming.Manager

	mu     sync.Mutex
	claims []streaming.Stream
	over   bool
}

func (c *transferCall) claim(name string) (streaming.Stream, error) {
	s, err := c.streams.Claim(c.ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		s.Close()
		return nil, context.Canceled
	}
	c.claims = append(c.claims, s)
	return s, nil
}

// close ends the streams, and with that whatever waits for them.
func (c *transferCall) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, s := range c.claims {
		s.Close()
	}
}

// progress opens the stream for steps; finish sends the last ones.
func (c *transferCall) progress(name string) (report progress.Func, finish func(), err error) {
	if name == "" {
		return nil, func() {}, nil
	}
	s, err := c.claim(name)
	if err != nil {
		return nil, nil, err
	}
	p := &steps{s: s, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go p.run()
	return p.add, p.finish, nil
}

// steps sends steps without making anybody wait: a step that was not sent yet when
// the next one of its name comes gives way to it.
type steps struct {
	s    streaming.Stream
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting []progress.Step
	last    bool
}

func (p *steps) add(s progress.Step) {
	p.mu.Lock()
	i := slices.IndexFunc(p.waiting, func(w progress.Step) bool { return w.Name == s.Name })
	switch {
	case i >= 0:
		p.waiting[i] = s
	case len(p.waiting) < maxSteps:
		p.waiting = append(p.waiting, s)
	}
	p.mu.Unlock()
	p.signal()
}

func (p *steps) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *steps) take() (s progress.Step, ok, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return s, false, p.last
	}
	s = p.waiting[0]
	p.waiting = p.waiting[1:]
	return s, true, p.last
}

func (p *steps) run() {
	defer close(p.done)
	for {
		s, ok, last := p.take()
		if ok {
			if p.s.Send(toAny(toProgress(s))) != nil {
				return // nobody listens any more
			}
			continue
		}
		if last {
			return
		}
		<-p.wake
	}
}

func (p *steps) finish() {
	p.mu.Lock()
	p.last = true
	p.mu.Unlock()
	p.signal()
	t := time.NewTimer(finishWait)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
	p.s.Close()
}

func toProgress(s progress.Step) *types.Progress {
	out := &types.Progress{Event: s.Event, Name: s.Name, Parents: s.Parents, Progress: s.Done, Total: s.Total}
	if s.Desc != nil {
		out.Desc = protobuf.ToDescriptor(*s.Desc)
	}
	return out
}

// authStream asks the client for logins, one at a time and once for each host.
type authStream struct {
	reference string // as the client wrote it, by which it knows the request

	mu    sync.Mutex
	s     streaming.Stream
	known map[string]remote.Credentials
}

func (a *authStream) ask(ctx context.Context, l remote.Login) (remote.Credentials, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.known[l.Host]; ok {
		return c, nil
	}
	if len(a.known) >= maxLogins {
		return remote.Credentials{}, fmt.Errorf("login to more than %d hosts: %w", maxLogins, errdefs.ErrResourceExhausted)
	}
	t := time.AfterFunc(credentialWait, func() { a.s.Close() })
	defer t.Stop()
	defer context.AfterFunc(ctx, func() { a.s.Close() })()
	if err := a.s.Send(toAny(&types.AuthRequest{Host: l.Host, Reference: a.reference, Wwwauthenticate: l.Challenges})); err != nil {
		return remote.Credentials{}, streamError(err)
	}
	m, err := a.s.Recv()
	if err != nil {
		return remote.Credentials{}, fmt.Errorf("the client gives no answer: %w: %w", streamError(err), errdefs.ErrUnauthenticated)
	}
	var r types.AuthResponse
	if err := fromAny(m, &r); err != nil {
		return remote.Credentials{}, err
	}
	c, err := fromAuth(&r)
	if err == nil {
		a.known[l.Host] = c
	}
	return c, err
}

func fromAuth(r *types.AuthResponse) (remote.Credentials, error) {
	switch r.AuthType {
	case types.AuthType_NONE:
		return remote.Credentials{}, nil
	case types.AuthType_CREDENTIALS:
		return remote.Credentials{Username: r.Username, Password: r.Secret}, nil
	case types.AuthType_REFRESH:
		return remote.Credentials{Username: "<token>", Password: r.Secret}, nil
	case types.AuthType_HEADER:
		return remote.Credentials{Header: r.Secret}, nil
	}
	return remote.Credentials{}, fmt.Errorf("authentication of type %d: %w", r.AuthType, errdefs.ErrNotImplemented)
}
