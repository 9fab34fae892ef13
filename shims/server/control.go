package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// runtimeRoot is where the runtime keeps the states of a namespace's containers:
// beside the folders of bundles, <state>/<plugin>/<namespace>/<id>, so that two
// daemons on one host don't meet.
func runtimeRoot(bundle, namespace string) string {
	return filepath.Join(bundle, "..", "..", "..", "runtime", namespace)
}

// newCommand chooses the runtime program: the one that the options name, else
// the first of ours, runc and crun that is there.
func newCommand(opts *anypb.Any, namespace, bundle string, r *reaper) (*command, error) {
	c := &command{root: runtimeRoot(bundle, namespace), reaper: r}
	if opts != nil && opts.TypeUrl != "" {
		v, err := typeurl.UnmarshalAny(opts)
		if err != nil {
			return nil, fmt.Errorf("runtime options: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		o, ok := v.(*options.Options)
		if !ok {
			return nil, fmt.Errorf("runtime options are %T, not runc's: %w", v, errdefs.ErrInvalidArgument)
		}
		c.binary, c.systemd = o.BinaryName, o.SystemdCgroup
		if o.Root != "" {
			c.root = filepath.Join(o.Root, namespace)
		}
	}
	if c.binary == "" {
		c.binary = findRuntime()
	}
	return c, os.MkdirAll(c.root, 0o700)
}

// findRuntime takes the first runtime program that is there; the options of a
// container name another, such as orlop-runtime, which stands beside the shim.
func findRuntime() string {
	dirs := filepath.SplitList(os.Getenv("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if self, err := os.Executable(); err == nil {
		dirs = append([]string{filepath.Dir(self)}, dirs...)
	}
	for _, name := range []string{"runc", "crun", "orlop-runtime"} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if fi, err := os.Stat(path); err == nil && fi.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return "orlop-runtime"
}

// Pause stops all processes of a container.
func (s *Service) Pause(ctx context.Context, r *wire.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.cmd.run(ctx, stdio{}, "pause", c.id); err != nil {
		return nil, err
	}
	c.init.set(task.Status_PAUSED)
	s.events.send(&events.TaskPaused{ContainerID: c.id})
	return &emptypb.Empty{}, nil
}

// Resume lets a paused container go on.
func (s *Service) Resume(ctx context.Context, r *wire.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	if err := c.cmd.run(ctx, stdio{}, "resume", c.id); err != nil {
		return nil, err
	}
	c.init.set(task.Status_RUNNING)
	s.events.send(&events.TaskResumed{ContainerID: c.id})
	return &emptypb.Empty{}, nil
}

// Pids lists a container's processes, and which of them are execs.
func (s *Service) Pids(ctx context.Context, r *wire.PidsRequest) (*wire.PidsResponse, error) {
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	pids, err := c.cmd.pids(ctx, c.id)
	if err != nil {
		return nil, err
	}
	execs := map[uint32]string{}
	c.mu.Lock()
	for id, p := range c.execs {
		if _, pid, _ := p.get(); pid > 0 {
			execs[uint32(pid)] = id
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
func (s *Service) ResizePty(_ context.Context, r *wire.ResizePtyRequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, p.resize(r.Width, r.Height)
}

// CloseIO ends a process's standard input.
func (s *Service) CloseIO(_ context.Context, r *wire.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.ID, r.ExecID)
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
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	if !json.Valid(r.Resources.GetValue()) {
		return nil, fmt.Errorf("resources are not JSON: %w", errdefs.ErrInvalidArgument)
	}
	path := filepath.Join(c.bundle, "resources.json")
	if err := os.WriteFile(path, r.Resources.GetValue(), 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(path)
	return &emptypb.Empty{}, c.cmd.run(ctx, stdio{}, "update", "--resources", path, c.id)
}

// Stats measures a container's cgroup.
func (s *Service) Stats(_ context.Context, r *wire.StatsRequest) (*wire.StatsResponse, error) {
	c, err := s.find(r.ID)
	if err != nil {
		return nil, err
	}
	st, pid, _ := c.init.get()
	if st == task.Status_STOPPED || pid == 0 {
		return nil, fmt.Errorf("task %q has ended: %w", r.ID, errdefs.ErrNotFound)
	}
	m, err := measure(pid)
	if err != nil {
		return nil, fmt.Errorf("task %q: %w", r.ID, err)
	}
	a, err := typeurl.MarshalAnyToProto(m)
	return &wire.StatsResponse{Stats: a}, err
}

func measure(pid int) (any, error) {
	if cgroups.Mode() == cgroups.Unified {
		path, err := cgroup2.PidGroupPath(pid)
		if err != nil {
			return nil, err
		}
		m, err := cgroup2.Load(path)
		if err != nil {
			return nil, err
		}
		return m.Stat()
	}
	cg, err := cgroup1.Load(cgroup1.PidPath(pid))
	if err != nil {
		return nil, err
	}
	return cg.Stat(cgroup1.IgnoreNotExist)
}

// Checkpoint is not there yet.
func (s *Service) Checkpoint(context.Context, *wire.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, fmt.Errorf("checkpoint: %w", errdefs.ErrNotImplemented)
}

// Connect tells who the shim is.
func (s *Service) Connect(_ context.Context, r *wire.ConnectRequest) (*wire.ConnectResponse, error) {
	resp := &wire.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: "3"}
	if c, err := s.find(r.ID); err == nil {
		_, pid, _ := c.init.get()
		resp.TaskPid = uint32(pid)
	}
	return resp, nil
}

// Shutdown ends the shim unless it holds a container.
func (s *Service) Shutdown(_ context.Context, r *wire.ShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	left := len(s.containers)
	s.mu.Unlock()
	if left > 0 && !r.Now {
		return &emptypb.Empty{}, nil
	}
	go s.shutdown()
	return &emptypb.Empty{}, nil
}

// Close sends the events that are left.
func (s *Service) Close() { s.events.close() }

// Remove kills and cleans up a container whose shim has died.
func Remove(ctx context.Context, namespace, id, bundle string) error {
	r, err := newReaper()
	if err != nil {
		return err
	}
	cmd, err := newCommand(nil, namespace, bundle, r)
	if err != nil {
		return err
	}
	c := &container{id: id, bundle: bundle, cmd: cmd, mounted: true}
	return errors.Join(cmd.delete(ctx, id), c.unmount())
}
