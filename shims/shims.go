// Package shims is the task port: how the daemon and the process that holds
// containers talk. It is containerd's runtime v2 protocol over ttrpc, task API
// version 3 with version 2 beside it; their messages are the same on the wire,
// so one set of types serves both: version 2's, whose package doesn't bring gRPC
// into the shim. Orlop's own shim adds one call, Adopt.
package shims

import (
	"context"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"

	"github.com/orlop/orlop/core/namespaces"
)

// Names of the task service in its versions, and of the service by which a shim
// of Orlop adopts the containers of one that has died.
const (
	ServiceV2    = "containerd.task.v2.Task"
	ServiceV3    = "containerd.task.v3.Task"
	ServiceAdopt = "orlop.shim.v1.Shim"
)

// Bootstrap is what a shim says when it has started.
type Bootstrap struct {
	Version  int    `json:"version"`
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
}

// Client calls a shim's task service in the version it speaks.
type Client struct {
	Conn    *ttrpc.Client
	Version int
}

// Call makes one call for a container of the context's namespace.
func (c *Client) Call(ctx context.Context, method string, req, resp any) error {
	service := ServiceV3
	switch {
	case method == "Adopt":
		service = ServiceAdopt
	case c.Version < 3:
		service = ServiceV2
	}
	if ns, ok := namespaces.From(ctx); ok {
		ctx = ttrpc.WithMetadata(ctx, ttrpc.MD{namespaces.TTRPCHeader: {ns}})
	}
	return c.Conn.Call(ctx, service, method, req, resp)
}

// Service is what a shim of Orlop serves.
type Service interface {
	task.TTRPCTaskService
	// Adopt takes over a container of a shim that has died.
	Adopt(context.Context, *task.CreateTaskRequest) (*task.CreateTaskResponse, error)
}

func method[Req, Resp any](fn func(context.Context, *Req) (Resp, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		req := new(Req)
		if err := unmarshal(req); err != nil {
			return nil, err
		}
		return fn(ctx, req)
	}
}

// Serve registers the task service under both versions, and adoption.
func Serve(s *ttrpc.Server, svc Service) {
	desc := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"State": method(svc.State), "Create": method(svc.Create), "Start": method(svc.Start),
		"Delete": method(svc.Delete), "Pids": method(svc.Pids), "Pause": method(svc.Pause),
		"Resume": method(svc.Resume), "Checkpoint": method(svc.Checkpoint), "Kill": method(svc.Kill),
		"Exec": method(svc.Exec), "ResizePty": method(svc.ResizePty), "CloseIO": method(svc.CloseIO),
		"Update": method(svc.Update), "Wait": method(svc.Wait), "Stats": method(svc.Stats),
		"Connect": method(svc.Connect), "Shutdown": method(svc.Shutdown),
	}}
	s.RegisterService(ServiceV2, desc)
	s.RegisterService(ServiceV3, desc)
	s.RegisterService(ServiceAdopt, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{"Adopt": method(svc.Adopt)}})
}
