// Package server is the shim: a small process that holds containers so that they
// outlive the daemon. It serves the task API (package shims) on a unix socket and
// tells the daemon what happens to them.
//
// A shim holds one container or many, of one namespace or many: requests carry
// theirs as metadata. Containers are made by the runtime that is linked in
// (package runtime), or by a program with runc's command line if the options name one.
//
// # Locks
//
// Service.mu guards the maps of containers and runtimes, container.mu its execs,
// process.order a process's start, process.mu its state; they are taken in that
// order, and only process.order is held while the runtime runs.
//
// # Crash
//
// If the shim dies, its containers go on: their streams are the client's fifos, and
// the runtime's state is on disk. Another shim adopts them ([Service.Adopt]). A
// container's bundle has a file that tells how it ended, written before anybody
// is told. Terminals go with the shim, and execs are no longer waited for.
package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/runtime"
)

// key names a container.
type key struct{ namespace, id string }

// Service implements the task API.
type Service struct {
	namespace string // of requests that name none
	events    *publisher
	shutdown  func()

	mu         sync.Mutex
	containers map[key]*container
	runtimes   map[string]*runtime.Runtime // by state folder
}

// container is one container the shim holds.
type container struct {
	key
	bundle  string
	init    *process
	ready   chan struct{} // closed when it is made, or not
	box     box           // nil if it was not made
	stopOOM func()

	mu       sync.Mutex
	execs    map[string]*process
	oomKills uint64 // told of so far
}

// New makes the service. Shutdown is called when the last container is gone and
// the daemon says so.
func New(namespace, ttrpcAddress string, shutdown func()) *Service {
	return &Service{namespace: namespace, events: newPublisher(ttrpcAddress), shutdown: shutdown,
		containers: map[key]*container{}, runtimes: map[string]*runtime.Runtime{}}
}

var _ wire.TTRPCTaskService = (*Service)(nil)

// Len is how many containers the shim holds.
func (s *Service) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.containers)
}

func (s *Service) key(ctx context.Context, id string) key {
	if ns, ok := ttrpc.GetMetadataValue(ctx, namespaces.TTRPCHeader); ok && ns != "" {
		return key{ns, id}
	}
	return key{s.namespace, id}
}

// find waits for a container that is being made.
func (s *Service) find(ctx context.Context, id string) (*container, error) {
	s.mu.Lock()
	c := s.containers[s.key(ctx, id)]
	s.mu.Unlock()
	if c != nil {
		select {
		case <-c.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if c == nil || c.box == nil {
		return nil, fmt.Errorf("task %q: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *Service) process(ctx context.Context, id, execID string) (*container, *process, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if execID == "" {
		return c, c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.execs[execID]
	if !ok {
		return nil, nil, fmt.Errorf("exec %q of task %q: %w", execID, id, errdefs.ErrNotFound)
	}
	return c, p, nil
}

// reserve takes the name of a container that is about to be made.
func (s *Service) reserve(ctx context.Context, r *wire.CreateTaskRequest) (*container, error) {
	c := &container{key: s.key(ctx, r.ID), bundle: r.Bundle, execs: map[string]*process{}, ready: make(chan struct{}), stopOOM: func() {},
		init: newProcess("", ends{r.Stdin, r.Stdout, r.Stderr, r.Terminal})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[c.key]; taken {
		return nil, fmt.Errorf("task %q: %w", r.ID, errdefs.ErrAlreadyExists)
	}
	s.containers[c.key] = c
	return c, nil
}

// keep makes a container known to requests.
func (s *Service) keep(c *container, b box) {
	c.box = b
	defer close(c.ready)
	stop, err := b.onOOM(func() { s.tellOOM(c) })
	if err != nil {
		log.L.WithError(err).Debugf("container %s: out-of-memory events are not to be had", c.id)
		return
	}
	c.stopOOM = stop
}

// tellOOM tells of processes killed for want of memory since the last time.
func (s *Service) tellOOM(c *container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.box.oomKills(); n > c.oomKills {
		c.oomKills = n
		s.events.send(c.namespace, &events.TaskOOM{ContainerID: c.id})
	}
}

func (s *Service) forget(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.key)
}

// Create makes a container and its first process, which waits to be started.
func (s *Service) Create(ctx context.Context, r *wire.CreateTaskRequest) (*wire.CreateTaskResponse, error) {
	if !filepath.IsAbs(r.Bundle) {
		return nil, fmt.Errorf("bundle %q is no absolute path: %w", r.Bundle, errdefs.ErrInvalidArgument)
	}
	c, err := s.reserve(ctx, r)
	if err != nil {
		return nil, err
	}
	b, err := s.create(ctx, c, r)
	if err != nil {
		s.forget(c)
		close(c.ready)
		return nil, err
	}
	s.keep(c, b)
	pid := uint32(b.pid())
	s.events.send(c.namespace, &events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Pid: pid,
		IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
	go s.watch(c, c.init)
	return &wire.CreateTaskResponse{Pid: pid}, nil
}

// create makes the container by the runtime that the options choose.
func (s *Service) create(ctx context.Context, c *container, r *wire.CreateTaskRequest) (box, error) {
	opts, err := readOptions[options.Options](r.Options, "runtime")
	if err != nil {
		return nil, err
	}
	if err := writeRequest(r); err != nil {
		return nil, err
	}
	std, err := openStreams(c.key, filepath.Join(c.bundle, "init"), c.init.ends)
	if err != nil {
		return nil, err
	}
	cr := creation{key: c.key, bundle: c.bundle, rootfs: fromWire(r.Rootfs), std: std.std, terminal: r.Terminal, checkpoint: r.Checkpoint}
	var b box
	if opts.BinaryName != "" {
		b, err = createByProgram(ctx, opts, cr)
	} else {
		b, err = s.createEmbedded(ctx, opts, cr)
	}
	if err != nil {
		std.close()
		return nil, err
	}
	if err := c.init.made(b, std); err != nil {
		std.close()
		return nil, errors.Join(err, b.remove(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// readOptions decodes what a request carries; options that are not set are empty ones.
// what names them in errors.
func readOptions[T any](a *anypb.Any, what string) (*T, error) {
	if a.GetTypeUrl() == "" {
		return new(T), nil
	}
	v, err := typeurl.UnmarshalAny(a)
	if err != nil {
		return nil, fmt.Errorf("%s options: %w: %w", what, err, errdefs.ErrInvalidArgument)
	}
	o, ok := v.(*T)
	if !ok {
		return nil, fmt.Errorf("%s options are %T, not runc's: %w", what, v, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

// runtimeRoot is where runtimes keep the states of a namespace's containers:
// beside the folders of bundles, <state>/<plugin>/<namespace>/<id>, so that two
// daemons on one host don't meet.
func runtimeRoot(cr key, bundle string, opts *options.Options) string {
	if opts.Root != "" {
		return filepath.Join(opts.Root, cr.namespace)
	}
	return filepath.Join(bundle, "..", "..", "..", "runtime", cr.namespace)
}

func createByProgram(ctx context.Context, opts *options.Options, cr creation) (box, error) {
	if err := subreap(); err != nil {
		return nil, err
	}
	p := &program{binary: opts.BinaryName, systemd: opts.SystemdCgroup, root: runtimeRoot(cr.key, cr.bundle, opts)}
	if err := os.MkdirAll(p.root, 0o700); err != nil {
		return nil, err
	}
	return p.create(ctx, cr)
}

func (s *Service) createEmbedded(ctx context.Context, opts *options.Options, cr creation) (box, error) {
	rt, err := s.runtime(runtimeRoot(cr.key, cr.bundle, opts), opts)
	if err != nil {
		return nil, err
	}
	return createEmbedded(ctx, rt, cr)
}

// runtime opens the embedded runtime for a state folder, once for each choice of options.
func (s *Service) runtime(root string, opts *options.Options) (*runtime.Runtime, error) {
	name := fmt.Sprintf("%s systemd=%t keyring=%t", root, opts.SystemdCgroup, !opts.NoNewKeyring)
	s.mu.Lock()
	defer s.mu.Unlock()
	if rt := s.runtimes[name]; rt != nil {
		return rt, nil
	}
	rt, err := runtime.Open(root, runtime.Options{SystemdCgroup: opts.SystemdCgroup, NoNewKeyring: opts.NoNewKeyring,
		Warn: func(id, message string) { log.L.Warnf("container %s: %s", id, message) }})
	if err != nil {
		return nil, err
	}
	s.runtimes[name] = rt
	return rt, nil
}

func fromWire(in []*types.Mount) []mount.Mount {
	out := make([]mount.Mount, len(in))
	for i, m := range in {
		out[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// watch waits for a process's end and tells of it.
func (s *Service) watch(c *container, p *process) {
	e := p.run.wait()
	p.order.Lock()
	defer p.order.Unlock()
	id := p.id
	if id == "" {
		id = c.id
		s.tellOOM(c) // the kernel's word may come later than the end
		if err := writeExit(c.bundle, e); err != nil {
			log.L.WithError(err).Warnf("container %s: how it ended could not be kept", c.id)
		}
	}
	p.end(e)
	_, pid, _ := p.get()
	s.events.send(c.namespace, &events.TaskExit{ContainerID: c.id, ID: id, Pid: pid, ExitStatus: e.code, ExitedAt: timestamppb.New(e.at)})
}

// Start runs the first process or an exec.
func (s *Service) Start(ctx context.Context, r *wire.StartRequest) (*wire.StartResponse, error) {
	c, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	p.order.Lock()
	defer p.order.Unlock()
	if st, _, _ := p.get(); st != task.Status_CREATED {
		return nil, fmt.Errorf("task %q %s is %s, it can't be started: %w", r.ID, r.ExecID, st, errdefs.ErrFailedPrecondition)
	}
	if r.ExecID != "" {
		return s.startExec(ctx, c, p)
	}
	if err := c.box.start(ctx); err != nil {
		return nil, err
	}
	p.set(task.Status_RUNNING)
	_, pid, _ := p.get()
	s.events.send(c.namespace, &events.TaskStart{ContainerID: c.id, Pid: pid})
	return &wire.StartResponse{Pid: pid}, nil
}

func (s *Service) startExec(ctx context.Context, c *container, p *process) (*wire.StartResponse, error) {
	std, err := openStreams(c.key, filepath.Join(c.bundle, p.id), p.ends)
	if err != nil {
		return nil, err
	}
	run, err := c.box.exec(ctx, p.id, p.spec, p.ends.terminal, std.std)
	if err != nil {
		std.close()
		return nil, err
	}
	if err := p.made(run, std); err != nil {
		run.kill(9)
		run.wait()
		run.release()
		std.close()
		return nil, err
	}
	p.set(task.Status_RUNNING)
	_, pid, _ := p.get()
	s.events.send(c.namespace, &events.TaskExecStarted{ContainerID: c.id, ExecID: p.id, Pid: pid})
	go s.watch(c, p)
	return &wire.StartResponse{Pid: pid}, nil
}

// Delete removes an ended first process, with its container, or an ended exec.
func (s *Service) Delete(ctx context.Context, r *wire.DeleteRequest) (*wire.DeleteResponse, error) {
	c, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	e, err := p.stopped()
	if err != nil {
		return nil, err
	}
	_, pid, _ := p.get()
	resp := &wire.DeleteResponse{Pid: pid, ExitStatus: e.code}
	if !e.at.IsZero() {
		resp.ExitedAt = timestamppb.New(e.at)
	}
	if r.ExecID != "" {
		c.mu.Lock()
		delete(c.execs, r.ExecID)
		c.mu.Unlock()
		if p.run != nil {
			p.run.release()
		}
		return resp, nil
	}
	c.stopOOM()
	if err := c.box.remove(ctx); err != nil {
		return nil, err
	}
	s.forget(c)
	c.box.release()
	s.events.send(c.namespace, &events.TaskDelete{ContainerID: c.id, Pid: resp.Pid, ExitStatus: e.code, ExitedAt: resp.ExitedAt})
	return resp, nil
}

// Exec prepares another process in a container.
func (s *Service) Exec(ctx context.Context, r *wire.ExecProcessRequest) (*emptypb.Empty, error) {
	if err := namespaces.Validate(r.ExecID); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	p := newProcess(r.ExecID, ends{r.Stdin, r.Stdout, r.Stderr, r.Terminal})
	p.spec = r.Spec.GetValue()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.execs[r.ExecID]; taken {
		return nil, fmt.Errorf("exec %q of task %q: %w", r.ExecID, r.ID, errdefs.ErrAlreadyExists)
	}
	c.execs[r.ExecID] = p
	s.events.send(c.namespace, &events.TaskExecAdded{ContainerID: c.id, ExecID: r.ExecID})
	return &emptypb.Empty{}, nil
}
