package proxy

import (
	"context"
	"time"

	wire "github.com/containerd/containerd/api/services/sandbox/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"github.com/orlop/orlop/core/sandbox"
	"github.com/orlop/orlop/protobuf"
)

// Controller is a sandbox controller in another process.
type Controller struct {
	client wire.ControllerClient
	name   string
}

// NewController talks to the sandbox controller behind conn, which knows itself
// by that name.
func NewController(conn grpc.ClientConnInterface, name string) *Controller {
	return &Controller{wire.NewControllerClient(conn), name}
}

var _ sandbox.Controller = (*Controller)(nil)

func (c *Controller) wrap(err error) error { return wrap("sandbox controller", c.name, err) }

// Create implements [sandbox.Controller].
func (c *Controller) Create(ctx context.Context, id string, o sandbox.CreateOptions) error {
	_, err := c.client.Create(outgoing(ctx), &wire.ControllerCreateRequest{
		SandboxID: id, Rootfs: protobuf.ToMounts(o.Rootfs), Options: protobuf.ToAny(o.Options), NetnsPath: o.NetNS,
		Annotations: o.Annotations, Sandbox: protobuf.ToSandbox(o.Sandbox), Sandboxer: c.name,
	})
	return c.wrap(err)
}

// Start implements [sandbox.Controller].
func (c *Controller) Start(ctx context.Context, id string) (sandbox.Instance, error) {
	r, err := c.client.Start(outgoing(ctx), &wire.ControllerStartRequest{SandboxID: id, Sandboxer: c.name})
	return sandbox.Instance{
		ID: id, Pid: r.GetPid(), Created: protobuf.FromTime(r.GetCreatedAt()), Labels: r.GetLabels(),
		Address: r.GetAddress(), Version: r.GetVersion(), Spec: protobuf.FromAny(r.GetSpec()),
	}, c.wrap(err)
}

// Platform implements [sandbox.Controller].
func (c *Controller) Platform(ctx context.Context, id string) (ocispec.Platform, error) {
	r, err := c.client.Platform(outgoing(ctx), &wire.ControllerPlatformRequest{SandboxID: id, Sandboxer: c.name})
	return protobuf.FromPlatform(r.GetPlatform()), c.wrap(err)
}

// Stop implements [sandbox.Controller].
func (c *Controller) Stop(ctx context.Context, id string, timeout time.Duration) error {
	_, err := c.client.Stop(outgoing(ctx), &wire.ControllerStopRequest{SandboxID: id, TimeoutSecs: uint32(timeout / time.Second), Sandboxer: c.name})
	return c.wrap(err)
}

// Wait implements [sandbox.Controller].
func (c *Controller) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	r, err := c.client.Wait(outgoing(ctx), &wire.ControllerWaitRequest{SandboxID: id, Sandboxer: c.name})
	return sandbox.Exit{Status: r.GetExitStatus(), At: protobuf.FromTime(r.GetExitedAt())}, c.wrap(err)
}

// Status implements [sandbox.Controller].
func (c *Controller) Status(ctx context.Context, id string, verbose bool) (sandbox.Status, error) {
	r, err := c.client.Status(outgoing(ctx), &wire.ControllerStatusRequest{SandboxID: id, Verbose: verbose, Sandboxer: c.name})
	return sandbox.Status{
		ID: id, Pid: r.GetPid(), State: r.GetState(), Info: r.GetInfo(), Created: protobuf.FromTime(r.GetCreatedAt()),
		Exited: protobuf.FromTime(r.GetExitedAt()), Extra: protobuf.FromAny(r.GetExtra()), Address: r.GetAddress(), Version: r.GetVersion(),
	}, c.wrap(err)
}

// Shutdown implements [sandbox.Controller].
func (c *Controller) Shutdown(ctx context.Context, id string) error {
	_, err := c.client.Shutdown(outgoing(ctx), &wire.ControllerShutdownRequest{SandboxID: id, Sandboxer: c.name})
	return c.wrap(err)
}

// Metrics implements [sandbox.Controller].
func (c *Controller) Metrics(ctx context.Context, id string) (sandbox.Metric, error) {
	r, err := c.client.Metrics(outgoing(ctx), &wire.ControllerMetricsRequest{SandboxID: id, Sandboxer: c.name})
	return protobuf.FromMetric(r.GetMetrics()), c.wrap(err)
}

// Update implements [sandbox.Controller].
func (c *Controller) Update(ctx context.Context, id string, s sandbox.Sandbox, fields ...string) error {
	_, err := c.client.Update(outgoing(ctx), &wire.ControllerUpdateRequest{SandboxID: id, Sandboxer: c.name, Sandbox: protobuf.ToSandbox(s), Fields: fields})
	return c.wrap(err)
}
