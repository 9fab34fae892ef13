package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/task"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// The exit codes of this program where no process has given one, as Docker's.
const (
	// CodeError: orlopctl or the daemon could not do it.
	CodeError = 125
	// CodeNotExecutable: the command is there and can't be executed.
	CodeNotExecutable = 126
	// CodeNotFound: there is no such command.
	CodeNotFound = 127
)

// specType names an OCI runtime spec and its parts in messages, as containerd
// does.
const specType = "types.containerd.io/opencontainers/runtime-spec/1/"

// Process is a running process: a task's first one, or one exec'ed.
type Process struct {
	// Container and Exec name it; Exec is "" for the first one.
	Container, Exec string
	// PID is its number on the host.
	PID uint32

	c       *Client
	streams *streams
	waited  chan waitResult
}

type waitResult struct {
	code int
	err  error
}

// StartError says why a process did not come to run, with the exit code that
// tells it to scripts.
type StartError struct {
	Code int
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *StartError) Unwrap() error { return e.Err }

// startError tells from a runtime's message whether the command was at fault.
func startError(err error) error {
	if err == nil {
		return nil
	}
	text := strings.ToLower(status.Convert(err).Message())
	code := CodeError
	switch exec := strings.Contains(text, "exec"); {
	case strings.Contains(text, "executable file not found"), exec && strings.Contains(text, "no such file or directory"),
		exec && strings.Contains(text, "not a directory"):
		code = CodeNotFound
	case exec && strings.Contains(text, "permission denied"), exec && strings.Contains(text, "exec format error"),
		exec && strings.Contains(text, "is a directory"):
		code = CodeNotExecutable
	}
	return &StartError{Code: code, Err: err}
}

// StartTask makes a container's task and starts it. If it can't be started,
// nothing stays of it.
func (c *Client) StartTask(ctx context.Context, id string, rootfs []*types.Mount, o IO) (*Process, error) {
	s, err := c.newStreams(o)
	if err != nil {
		return nil, err
	}
	p := &Process{Container: id, c: c, streams: s}
	api := tasks.NewTasksClient(c.conn)
	_, err = api.Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: id, Rootfs: rootfs, Stdin: s.in, Stdout: s.out, Stderr: s.err, Terminal: o.Terminal,
	})
	if err != nil {
		s.close()
		return nil, startError(err)
	}
	return p, p.start(ctx)
}

// Exec runs another process in a container's task.
func (c *Client) Exec(ctx context.Context, id, exec string, process *specs.Process, o IO) (*Process, error) {
	data, err := json.Marshal(process)
	if err != nil {
		return nil, err
	}
	s, err := c.newStreams(o)
	if err != nil {
		return nil, err
	}
	p := &Process{Container: id, Exec: exec, c: c, streams: s}
	_, err = tasks.NewTasksClient(c.conn).Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: exec, Stdin: s.in, Stdout: s.out, Stderr: s.err, Terminal: o.Terminal,
		Spec: &anypb.Any{TypeUrl: specType + "Process", Value: data},
	})
	if err != nil {
		s.close()
		return nil, startError(err)
	}
	return p, p.start(ctx)
}

// start begins to wait, starts, and connects the streams.
func (p *Process) start(ctx context.Context) error {
	p.wait(ctx)
	r, err := tasks.NewTasksClient(p.c.conn).Start(ctx, &tasks.StartRequest{ContainerID: p.Container, ExecID: p.Exec})
	if err != nil {
		p.streams.close()
		ctx, cancel := detached(ctx)
		defer cancel()
		p.Delete(ctx)
		return startError(err)
	}
	p.PID = r.Pid
	p.streams.raw()
	p.streams.connect(func() { p.closeStdin(ctx) })
	return nil
}

func (p *Process) closeStdin(ctx context.Context) {
	tasks.NewTasksClient(p.c.conn).CloseIO(ctx, &tasks.CloseIORequest{ContainerID: p.Container, ExecID: p.Exec, Stdin: true})
}

// wait asks for the exit code in the background. For a process that is not
// attached it isn't asked.
func (p *Process) wait(ctx context.Context) {
	p.waited = make(chan waitResult, 1)
	if p.streams.io.Detached || p.streams.io.Log != "" {
		return
	}
	go func() {
		r, err := tasks.NewTasksClient(p.c.conn).Wait(ctx, &tasks.WaitRequest{ContainerID: p.Container, ExecID: p.Exec})
		p.waited <- waitResult{code: int(r.GetExitStatus()), err: err}
	}()
}

// Attach waits for an attached process: its signals are passed on, its output
// copied to the end. It returns the exit code.
func (p *Process) Attach(ctx context.Context) (int, error) {
	stop := p.c.forward(ctx, p, p.streams.io)
	defer stop()
	defer p.streams.close()
	r := <-p.waited
	if r.err != nil {
		return CodeError, r.err
	}
	p.streams.wait()
	return r.code, nil
}

// Delete removes what is left of an ended process. One that is gone already is
// no error.
func (p *Process) Delete(ctx context.Context) error {
	api := tasks.NewTasksClient(p.c.conn)
	var err error
	if p.Exec != "" {
		_, err = api.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: p.Container, ExecID: p.Exec})
	} else {
		_, err = api.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: p.Container})
	}
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// Reattach connects to the streams of a running task, if they are fifos.
func (c *Client) Reattach(ctx context.Context, id string, o IO) (*Process, error) {
	r, err := tasks.NewTasksClient(c.conn).Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return nil, err
	}
	if r.Process.Status == task.Status_STOPPED {
		return nil, fmt.Errorf("task %s has ended with code %d", id, r.Process.ExitStatus)
	}
	o.Terminal = r.Process.Terminal
	s, err := openStreams(o, r.Process)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", id, err)
	}
	p := &Process{Container: id, PID: r.Process.Pid, c: c, streams: s}
	p.wait(ctx)
	s.raw()
	s.connect(func() {})
	return p, nil
}

// Spec decodes the spec of a container.
func Spec(c *containers.Container) (*specs.Spec, error) {
	if c.Spec == nil {
		return nil, errors.New("the container has no spec")
	}
	var s specs.Spec
	if err := json.Unmarshal(c.Spec.Value, &s); err != nil {
		return nil, fmt.Errorf("spec of container %s: %w", c.ID, err)
	}
	return &s, nil
}
