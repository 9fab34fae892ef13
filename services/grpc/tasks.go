package grpc

import (
	"context"
	"errors"
	"fmt"

	shim "github.com/containerd/containerd/api/runtime/task/v2"
	wire "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/shims/manager"
)

// Tasks serves the tasks service.
type Tasks struct {
	wire.UnimplementedTasksServer
	Containers container.Store
	Manager    *manager.Manager
	// Checkpoints are those of tasks.
	Checkpoints Checkpoints
}

// Register implements Service.
func (s *Tasks) Register(r grpc.ServiceRegistrar) { wire.RegisterTasksServer(r, s) }

// call makes one call to a container's shim.
func (s *Tasks) call(ctx context.Context, id, method string, req, resp any) error {
	sh, err := s.Manager.Get(ctx, id)
	if err != nil {
		return err
	}
	return sh.Call(ctx, method, req, resp)
}

// Create makes a container's task.
func (s *Tasks) Create(ctx context.Context, r *wire.CreateTaskRequest) (_ *wire.CreateTaskResponse, err error) {
	c, err := s.Containers.Get(ctx, r.ContainerID)
	if err != nil {
		return nil, err
	}
	from, done, err := s.Checkpoints.unpack(ctx, r.Checkpoint)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	opts := r.Options
	if opts == nil && c.Runtime.Options != nil {
		opts = &anypb.Any{TypeUrl: c.Runtime.Options.GetTypeUrl(), Value: c.Runtime.Options.GetValue()}
	}
	runtime := c.Runtime.Name
	if r.RuntimePath != "" {
		runtime = r.RuntimePath
	}
	resp, err := s.Manager.Create(ctx, runtime, c.Spec.GetValue(), &shim.CreateTaskRequest{
		ID: r.ContainerID, Rootfs: r.Rootfs, Terminal: r.Terminal, Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Options: opts, Checkpoint: from,
	})
	return &wire.CreateTaskResponse{ContainerID: r.ContainerID, Pid: resp.GetPid()}, err
}

// Start runs the task or an exec.
func (s *Tasks) Start(ctx context.Context, r *wire.StartRequest) (*wire.StartResponse, error) {
	resp := &shim.StartResponse{}
	err := s.call(ctx, r.ContainerID, "Start", &shim.StartRequest{ID: r.ContainerID, ExecID: r.ExecID}, resp)
	return &wire.StartResponse{Pid: resp.Pid}, err
}

// Delete removes an ended task.
func (s *Tasks) Delete(ctx context.Context, r *wire.DeleteTaskRequest) (*wire.DeleteResponse, error) {
	resp, err := s.Manager.Delete(ctx, r.ContainerID)
	return &wire.DeleteResponse{Pid: resp.GetPid(), ExitStatus: resp.GetExitStatus(), ExitedAt: resp.GetExitedAt()}, err
}

// DeleteProcess removes an ended exec.
func (s *Tasks) DeleteProcess(ctx context.Context, r *wire.DeleteProcessRequest) (*wire.DeleteResponse, error) {
	resp := &shim.DeleteResponse{}
	err := s.call(ctx, r.ContainerID, "Delete", &shim.DeleteRequest{ID: r.ContainerID, ExecID: r.ExecID}, resp)
	return &wire.DeleteResponse{ID: r.ExecID, Pid: resp.Pid, ExitStatus: resp.ExitStatus, ExitedAt: resp.ExitedAt}, err
}

func (s *Tasks) state(ctx context.Context, id, execID string) (*task.Process, error) {
	st := &shim.StateResponse{}
	if err := s.call(ctx, id, "State", &shim.StateRequest{ID: id, ExecID: execID}, st); err != nil {
		return nil, err
	}
	name := id
	if execID != "" {
		name = execID
	}
	return &task.Process{
		ContainerID: id, ID: name, Pid: st.Pid, Status: st.Status, Stdin: st.Stdin, Stdout: st.Stdout, Stderr: st.Stderr,
		Terminal: st.Terminal, ExitStatus: st.ExitStatus, ExitedAt: st.ExitedAt,
	}, nil
}

// Get tells how a task or exec is.
func (s *Tasks) Get(ctx context.Context, r *wire.GetRequest) (*wire.GetResponse, error) {
	p, err := s.state(ctx, r.ContainerID, r.ExecID)
	return &wire.GetResponse{Process: p}, err
}

// List tells how all tasks are; one that goes meanwhile is left out.
func (s *Tasks) List(ctx context.Context, _ *wire.ListTasksRequest) (*wire.ListTasksResponse, error) {
	all, err := s.Manager.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &wire.ListTasksResponse{}
	for _, sh := range all {
		p, err := s.state(ctx, sh.ID(), "")
		if err == nil {
			resp.Tasks = append(resp.Tasks, p)
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return resp, nil
}

// Kill sends a signal.
func (s *Tasks) Kill(ctx context.Context, r *wire.KillRequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "Kill", &shim.KillRequest{ID: r.ContainerID, ExecID: r.ExecID, Signal: r.Signal, All: r.All}, resp)
}

// Exec prepares another process.
func (s *Tasks) Exec(ctx context.Context, r *wire.ExecProcessRequest) (*emptypb.Empty, error) {
	if r.ExecID == "" {
		return nil, fmt.Errorf("exec has no ID: %w", errdefs.ErrInvalidArgument)
	}
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "Exec", &shim.ExecProcessRequest{
		ID: r.ContainerID, ExecID: r.ExecID, Terminal: r.Terminal, Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Spec: r.Spec,
	}, resp)
}

// ResizePty sets a terminal's size.
func (s *Tasks) ResizePty(ctx context.Context, r *wire.ResizePtyRequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "ResizePty", &shim.ResizePtyRequest{ID: r.ContainerID, ExecID: r.ExecID, Width: r.Width, Height: r.Height}, resp)
}

// CloseIO ends standard input.
func (s *Tasks) CloseIO(ctx context.Context, r *wire.CloseIORequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "CloseIO", &shim.CloseIORequest{ID: r.ContainerID, ExecID: r.ExecID, Stdin: r.Stdin}, resp)
}

// Pause stops a task's processes.
func (s *Tasks) Pause(ctx context.Context, r *wire.PauseTaskRequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "Pause", &shim.PauseRequest{ID: r.ContainerID}, resp)
}

// Resume lets them go on.
func (s *Tasks) Resume(ctx context.Context, r *wire.ResumeTaskRequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "Resume", &shim.ResumeRequest{ID: r.ContainerID}, resp)
}

// ListPids lists a task's processes.
func (s *Tasks) ListPids(ctx context.Context, r *wire.ListPidsRequest) (*wire.ListPidsResponse, error) {
	resp := &shim.PidsResponse{}
	err := s.call(ctx, r.ContainerID, "Pids", &shim.PidsRequest{ID: r.ContainerID}, resp)
	return &wire.ListPidsResponse{Processes: resp.Processes}, err
}

// Update changes a task's resources.
func (s *Tasks) Update(ctx context.Context, r *wire.UpdateTaskRequest) (*emptypb.Empty, error) {
	resp := &emptypb.Empty{}
	return resp, s.call(ctx, r.ContainerID, "Update", &shim.UpdateTaskRequest{ID: r.ContainerID, Resources: r.Resources, Annotations: r.Annotations}, resp)
}

// Wait returns when a task or exec has ended.
func (s *Tasks) Wait(ctx context.Context, r *wire.WaitRequest) (*wire.WaitResponse, error) {
	resp := &shim.WaitResponse{}
	err := s.call(ctx, r.ContainerID, "Wait", &shim.WaitRequest{ID: r.ContainerID, ExecID: r.ExecID}, resp)
	return &wire.WaitResponse{ExitStatus: resp.ExitStatus, ExitedAt: resp.ExitedAt}, err
}

// Metrics measures the tasks that match.
func (s *Tasks) Metrics(ctx context.Context, r *wire.MetricsRequest) (*wire.MetricsResponse, error) {
	f, err := filter.Parse(r.Filters...)
	if err != nil {
		return nil, err
	}
	all, err := s.Manager.List(ctx)
	if err != nil {
		return nil, err
	}
	resp := &wire.MetricsResponse{}
	for _, sh := range all {
		match := f.Match(func(path []string) (string, bool) { return sh.ID(), path[0] == "id" })
		if !match {
			continue
		}
		st := &shim.StatsResponse{}
		if err := sh.Call(ctx, "Stats", &shim.StatsRequest{ID: sh.ID()}, st); err != nil {
			if errors.Is(err, context.Canceled) {
				return nil, err
			}
			continue // ended meanwhile
		}
		resp.Metrics = append(resp.Metrics, &types.Metric{Timestamp: timestamppb.Now(), ID: sh.ID(), Data: st.Stats})
	}
	return resp, nil
}
