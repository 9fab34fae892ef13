package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Pause stops all processes of a container.
func (s *Service) Pause(ctx context.Context, r *wire.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.box.pause(ctx); err != nil {
		return nil, err
	}
	c.init.set(task.Status_PAUSED)
	s.events.send(c.namespace, &events.TaskPaused{ContainerID: c.id})
	return &emptypb.Empty{}, nil
}

// Resume lets a paused container go on.
func (s *Service) Resume(ctx context.Context, r *wire.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.box.resume(ctx); err != nil {
		return nil, err
	}
	c.init.set(task.Status_RUNNING)
	s.events.send(c.namespace, &events.TaskResumed{ContainerID: c.id})
	return &emptypb.Empty{}, nil
}

// Pids lists a container's processes, and which of them are execs.
func (s *Service) Pids(ctx context.Context, r *wire.PidsRequest) (*wire.PidsResponse, error) {
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	pids, err := c.box.pids(ctx)
	if err != nil {
		return nil, err
	}
	execs := map[uint32]string{}
	c.mu.Lock()
	for id, p := range c.execs {
		if _, pid, _ := p.get(); pid > 0 {
			execs[pid] = id
		}
	}
	c.mu.Unlock()
	resp := &wire.PidsResponse{}
	for _, pid := range pids {
		info := &task.ProcessInfo{Pid: pid}
		if id, ok := execs[pid]; ok {
			a, err := typeurl.MarshalAnyToProto(&options.ProcessDetails{ExecID: id})
			if err != nil {
				return nil, err
			}
			info.Info = a
		}
		resp.Processes = append(resp.Processes, info)
	}
	return resp, nil
}

// ResizePty sets a terminal's size.
func (s *Service) ResizePty(ctx context.Context, r *wire.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, p.resize(r.Width, r.Height)
}

// CloseIO ends a process's standard input.
func (s *Service) CloseIO(ctx context.Context, r *wire.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.Stdin {
		p.closeIn()
	}
	return &emptypb.Empty{}, nil
}

// Update changes a container's resources.
func (s *Service) Update(ctx context.Context, r *wire.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, c.box.update(ctx, r.Resources.GetValue())
}

// Stats measures a container's cgroup.
func (s *Service) Stats(ctx context.Context, r *wire.StatsRequest) (*wire.StatsResponse, error) {
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	st, pid, _ := c.init.get()
	if st == task.Status_STOPPED || pid == 0 {
		return nil, fmt.Errorf("task %q has ended: %w", r.ID, errdefs.ErrNotFound)
	}
	m, err := c.box.stats()
	if err != nil {
		return nil, fmt.Errorf("task %q: %w", r.ID, err)
	}
	a, err := typeurl.MarshalAnyToProto(m)
	return &wire.StatsResponse{Stats: a}, err
}

// Checkpoint writes a container's processes into a folder. Unless the options say that
// they end, they go on.
func (s *Service) Checkpoint(ctx context.Context, r *wire.CheckpointTaskRequest) (*emptypb.Empty, error) {
	if !filepath.IsAbs(r.Path) {
		return nil, fmt.Errorf("checkpoint folder %q is no absolute path: %w", r.Path, errdefs.ErrInvalidArgument)
	}
	o, err := readOptions[options.CheckpointOptions](r.Options, "checkpoint")
	if err != nil {
		return nil, err
	}
	c, err := s.find(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.box.checkpoint(ctx, r.Path, o); err != nil {
		return nil, err
	}
	s.events.send(c.namespace, &events.TaskCheckpointed{ContainerID: c.id})
	return &emptypb.Empty{}, nil
}

// Connect tells who the shim is.
func (s *Service) Connect(ctx context.Context, r *wire.ConnectRequest) (*wire.ConnectResponse, error) {
	resp := &wire.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: "3"}
	if c, err := s.find(ctx, r.ID); err == nil {
		_, pid, _ := c.init.get()
		resp.TaskPid = pid
	}
	return resp, nil
}

// Shutdown ends the shim unless it holds a container.
func (s *Service) Shutdown(_ context.Context, r *wire.ShutdownRequest) (*emptypb.Empty, error) {
	if s.Len() > 0 && !r.Now {
		return &emptypb.Empty{}, nil
	}
	go s.shutdown()
	return &emptypb.Empty{}, nil
}

// Close sends the events that are left.
func (s *Service) Close() { s.events.close() }

// Kill sends a signal.
func (s *Service) Kill(ctx context.Context, r *wire.KillRequest) (*emptypb.Empty, error) {
	c, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	st, pid, _ := p.get()
	if st == task.Status_STOPPED || pid == 0 {
		return nil, fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	}
	if r.ExecID != "" {
		return &emptypb.Empty{}, p.run.kill(unix.Signal(r.Signal))
	}
	return &emptypb.Empty{}, c.box.killAll(ctx, unix.Signal(r.Signal), r.All)
}

// State tells how a process is.
func (s *Service) State(ctx context.Context, r *wire.StateRequest) (*wire.StateResponse, error) {
	c, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	st, pid, e := p.get()
	resp := &wire.StateResponse{
		ID: c.id, ExecID: p.id, Bundle: c.bundle, Pid: pid, Status: st,
		Stdin: p.ends.in, Stdout: p.ends.out, Stderr: p.ends.err, Terminal: p.ends.terminal, ExitStatus: e.code,
	}
	if !e.at.IsZero() {
		resp.ExitedAt = timestamppb.New(e.at)
	}
	return resp, nil
}

// Wait returns when a process has ended.
func (s *Service) Wait(ctx context.Context, r *wire.WaitRequest) (*wire.WaitResponse, error) {
	_, p, err := s.process(ctx, r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	e, err := p.wait(ctx)
	if err != nil {
		return nil, err
	}
	return &wire.WaitResponse{ExitStatus: e.code, ExitedAt: timestamppb.New(e.at)}, nil
}
