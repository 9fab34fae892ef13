// Package server is the shim: a small process that holds containers so that they
// outlive the daemon. It serves the task API (package shims) on a unix socket,
// is the subreaper of its containers, and tells the daemon what happens to them.
//
// # Locks
//
// Service.mu guards the map of containers, container.mu its execs, process.mu a
// process's state; they are taken in that order and none is held while the
// runtime runs.
//
// # Crash
//
// If the shim dies, its containers go on: their streams are the client's fifos.
// The daemon notices the closed connection and calls the shim program's delete
// command, which kills what is left and cleans up.
package server

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/mounts"
)

// Service implements the task API.
type Service struct {
	namespace string
	reaper    *reaper
	events    *publisher
	shutdown  func()

	mu         sync.Mutex
	containers map[string]*container
}

// container is one container the shim holds.
type container struct {
	id, bundle string
	cmd        *command
	mounted    bool
	init       *process

	mu    sync.Mutex
	execs map[string]*process
}

// New makes the service. Shutdown is called when the last container is gone and
// the daemon says so.
func New(namespace, ttrpcAddress string, shutdown func()) (*Service, error) {
	r, err := newReaper()
	if err != nil {
		return nil, err
	}
	return &Service{
		namespace: namespace, reaper: r, events: newPublisher(ttrpcAddress, namespace), shutdown: shutdown, containers: map[string]*container{},
	}, nil
}

var _ wire.TTRPCTaskService = (*Service)(nil)

func (s *Service) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.containers[id]
	if !ok {
		return nil, fmt.Errorf("task %q: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *Service) process(id, execID string) (*container, *process, error) {
	c, err := s.find(id)
	if err != nil || execID == "" {
		if err != nil {
			return nil, nil, err
		}
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

// Create makes a container and its init process, which waits to be started.
func (s *Service) Create(ctx context.Context, r *wire.CreateTaskRequest) (*wire.CreateTaskResponse, error) {
	if r.Checkpoint != "" {
		return nil, fmt.Errorf("restoring a checkpoint: %w", errdefs.ErrNotImplemented)
	}
	c, err := s.newContainer(r)
	if err != nil {
		return nil, err
	}
	ended, err := c.create(ctx, r)
	if err != nil {
		s.forget(c.id)
		return nil, err
	}
	_, pid, _ := c.init.get()
	s.events.send(&events.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Pid: uint32(pid),
		IO: &events.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
	go s.watch(c, c.init, ended)
	return &wire.CreateTaskResponse{Pid: uint32(pid)}, nil
}

func (s *Service) newContainer(r *wire.CreateTaskRequest) (*container, error) {
	cmd, err := newCommand(r.Options, s.namespace, r.Bundle, s.reaper)
	if err != nil {
		return nil, err
	}
	c := &container{
		id: r.ID, bundle: r.Bundle, cmd: cmd, execs: map[string]*process{},
		init: newProcess("", r.Stdin, r.Stdout, r.Stderr, r.Terminal),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.containers[r.ID]; taken {
		return nil, fmt.Errorf("task %q: %w", r.ID, errdefs.ErrAlreadyExists)
	}
	s.containers[r.ID] = c
	return c, nil
}

func (c *container) rootfs() string { return c.bundle + "/rootfs" }

func (c *container) create(ctx context.Context, r *wire.CreateTaskRequest) (<-chan exit, error) {
	if len(r.Rootfs) > 0 {
		if err := os.MkdirAll(c.rootfs(), 0o711); err != nil {
			return nil, err
		}
		if err := mounts.All(fromWire(r.Rootfs), c.rootfs()); err != nil {
			return nil, fmt.Errorf("root file system: %w", err)
		}
		c.mounted = true
	}
	ended, err := c.init.spawn(ctx, c.cmd, c.bundle, c.id, "create", "--bundle", c.bundle)
	if err != nil {
		c.unmount()
	}
	return ended, err
}

func (c *container) unmount() error {
	if !c.mounted {
		return nil
	}
	return mounts.UnmountAll(c.rootfs(), true)
}

func fromWire(in []*types.Mount) []mount.Mount {
	out := make([]mount.Mount, len(in))
	for i, m := range in {
		out[i] = mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// watch waits for a process's end and tells of it.
func (s *Service) watch(c *container, p *process, ended <-chan exit) {
	e := <-ended
	p.end(e)
	_, pid, _ := p.get()
	id := p.id
	if id == "" {
		id = c.id
	}
	s.events.send(&events.TaskExit{ContainerID: c.id, ID: id, Pid: uint32(pid), ExitStatus: e.code, ExitedAt: timestamppb.New(e.at)})
}

// Start runs the init process or an exec.
func (s *Service) Start(ctx context.Context, r *wire.StartRequest) (*wire.StartResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if st, _, _ := p.get(); st != task.Status_CREATED {
		return nil, fmt.Errorf("task %q %s has been started: %w", r.ID, r.ExecID, errdefs.ErrFailedPrecondition)
	}
	if r.ExecID != "" {
		return s.startExec(ctx, c, p)
	}
	p.set(task.Status_RUNNING)
	if err := c.cmd.run(ctx, stdio{}, "start", c.id); err != nil {
		return nil, err
	}
	_, pid, _ := p.get()
	s.events.send(&events.TaskStart{ContainerID: c.id, Pid: uint32(pid)})
	return &wire.StartResponse{Pid: uint32(pid)}, nil
}

func (s *Service) startExec(ctx context.Context, c *container, p *process) (*wire.StartResponse, error) {
	spec, err := p.writeSpec(c.bundle)
	if err != nil {
		return nil, err
	}
	ended, err := p.spawn(ctx, c.cmd, c.bundle, c.id, "exec", "--process", spec, "--detach")
	if err != nil {
		return nil, err
	}
	p.set(task.Status_RUNNING)
	_, pid, _ := p.get()
	s.events.send(&events.TaskExecStarted{ContainerID: c.id, ExecID: p.id, Pid: uint32(pid)})
	go s.watch(c, p, ended)
	return &wire.StartResponse{Pid: uint32(pid)}, nil
}

// Delete removes an ended init, with its container, or an ended exec.
func (s *Service) Delete(ctx context.Context, r *wire.DeleteRequest) (*wire.DeleteResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	e, err := p.stopped()
	if err != nil {
		return nil, err
	}
	_, pid, _ := p.get()
	resp := &wire.DeleteResponse{Pid: uint32(pid), ExitStatus: e.code}
	if !e.at.IsZero() {
		resp.ExitedAt = timestamppb.New(e.at)
	}
	if r.ExecID != "" {
		c.mu.Lock()
		delete(c.execs, r.ExecID)
		c.mu.Unlock()
		return resp, p.forget(c.bundle)
	}
	if err := c.cmd.delete(ctx, c.id); err != nil {
		return nil, err
	}
	if err := c.unmount(); err != nil {
		return nil, err
	}
	s.forget(c.id)
	s.events.send(&events.TaskDelete{ContainerID: c.id, Pid: resp.Pid, ExitStatus: e.code, ExitedAt: resp.ExitedAt})
	return resp, nil
}

func (s *Service) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
}

// Exec prepares another process in a container.
func (s *Service) Exec(_ context.Context, r *wire.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	p := newProcess(r.ExecID, r.Stdin, r.Stdout, r.Stderr, r.Terminal)
	p.spec = r.Spec.GetValue()
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.execs[r.ExecID]; taken {
		return nil, fmt.Errorf("exec %q of task %q: %w", r.ExecID, r.ID, errdefs.ErrAlreadyExists)
	}
	c.execs[r.ExecID] = p
	s.events.send(&events.TaskExecAdded{ContainerID: c.id, ExecID: r.ExecID})
	return &emptypb.Empty{}, nil
}

// State tells how a process is.
func (s *Service) State(_ context.Context, r *wire.StateRequest) (*wire.StateResponse, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	st, pid, e := p.get()
	resp := &wire.StateResponse{
		ID: c.id, ExecID: p.id, Bundle: c.bundle, Pid: uint32(pid), Status: st,
		Stdin: p.in, Stdout: p.out, Stderr: p.errw, Terminal: p.terminal, ExitStatus: e.code,
	}
	if !e.at.IsZero() {
		resp.ExitedAt = timestamppb.New(e.at)
	}
	return resp, nil
}

// Wait returns when a process has ended.
func (s *Service) Wait(ctx context.Context, r *wire.WaitRequest) (*wire.WaitResponse, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	e, err := p.wait(ctx)
	if err != nil {
		return nil, err
	}
	return &wire.WaitResponse{ExitStatus: e.code, ExitedAt: timestamppb.New(e.at)}, nil
}

// Kill sends a signal.
func (s *Service) Kill(ctx context.Context, r *wire.KillRequest) (*emptypb.Empty, error) {
	c, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	st, pid, _ := p.get()
	if st == task.Status_STOPPED || pid == 0 {
		return nil, fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	}
	if r.ExecID != "" {
		if err := unix.Kill(pid, unix.Signal(r.Signal)); err != nil {
			return nil, fmt.Errorf("process already finished: %w: %w", err, errdefs.ErrNotFound)
		}
		return &emptypb.Empty{}, nil
	}
	args := []string{"kill"}
	if r.All {
		args = append(args, "--all")
	}
	return &emptypb.Empty{}, c.cmd.run(ctx, stdio{}, append(args, c.id, fmt.Sprint(r.Signal))...)
}
