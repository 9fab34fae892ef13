package grpc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	wire "github.com/containerd/containerd/api/services/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc"

	"github.com/orlop/orlop/core/sandbox"
	"github.com/orlop/orlop/protobuf"
)

// SandboxStore serves the store of sandboxes.
type SandboxStore struct {
	wire.UnimplementedStoreServer
	Store sandbox.Store
}

// Register implements Service.
func (s *SandboxStore) Register(r grpc.ServiceRegistrar) { wire.RegisterStoreServer(r, s) }

// Create adds a sandbox.
func (s *SandboxStore) Create(ctx context.Context, r *wire.StoreCreateRequest) (*wire.StoreCreateResponse, error) {
	x, err := s.Store.Create(ctx, protobuf.FromSandbox(r.Sandbox))
	return &wire.StoreCreateResponse{Sandbox: protobuf.ToSandbox(x)}, err
}

// Update changes a sandbox.
func (s *SandboxStore) Update(ctx context.Context, r *wire.StoreUpdateRequest) (*wire.StoreUpdateResponse, error) {
	x, err := s.Store.Update(ctx, protobuf.FromSandbox(r.Sandbox), r.Fields...)
	return &wire.StoreUpdateResponse{Sandbox: protobuf.ToSandbox(x)}, err
}

// Delete removes a sandbox.
func (s *SandboxStore) Delete(ctx context.Context, r *wire.StoreDeleteRequest) (*wire.StoreDeleteResponse, error) {
	return &wire.StoreDeleteResponse{}, s.Store.Delete(ctx, r.SandboxID)
}

// List returns the sandboxes that match.
func (s *SandboxStore) List(ctx context.Context, r *wire.StoreListRequest) (*wire.StoreListResponse, error) {
	all, err := s.Store.List(ctx, r.Filters...)
	return &wire.StoreListResponse{List: protobuf.Each(all, protobuf.ToSandbox)}, err
}

// Get returns one sandbox.
func (s *SandboxStore) Get(ctx context.Context, r *wire.StoreGetRequest) (*wire.StoreGetResponse, error) {
	x, err := s.Store.Get(ctx, r.SandboxID)
	return &wire.StoreGetResponse{Sandbox: protobuf.ToSandbox(x)}, err
}

// Sandboxes serves the sandbox controllers.
type Sandboxes struct {
	wire.UnimplementedControllerServer
	// Controllers by the name that requests call sandboxer; Default is the name
	// of the one for requests without.
	Controllers map[string]sandbox.Controller
	Default     string
}

// Register implements Service.
func (s *Sandboxes) Register(r grpc.ServiceRegistrar) { wire.RegisterControllerServer(r, s) }

func (s *Sandboxes) find(name string) (sandbox.Controller, error) {
	if name == "" {
		name = s.Default
	}
	c, ok := s.Controllers[name]
	if !ok {
		have := strings.Join(slices.Sorted(maps.Keys(s.Controllers)), ", ")
		return nil, fmt.Errorf("sandbox controller %q, there are %s: %w", name, have, errdefs.ErrNotFound)
	}
	return c, nil
}

// Create starts what holds a sandbox.
func (s *Sandboxes) Create(ctx context.Context, r *wire.ControllerCreateRequest) (*wire.ControllerCreateResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	return &wire.ControllerCreateResponse{SandboxID: r.SandboxID}, c.Create(ctx, r.SandboxID, sandbox.CreateOptions{
		Sandbox: protobuf.FromSandbox(r.Sandbox), Rootfs: protobuf.FromMounts(r.Rootfs), Options: protobuf.FromAny(r.Options),
		NetNS: r.NetnsPath, Annotations: r.Annotations,
	})
}

// Start makes a sandbox run.
func (s *Sandboxes) Start(ctx context.Context, r *wire.ControllerStartRequest) (*wire.ControllerStartResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	i, err := c.Start(ctx, r.SandboxID)
	return &wire.ControllerStartResponse{
		SandboxID: r.SandboxID, Pid: i.Pid, CreatedAt: protobuf.ToTime(i.Created), Labels: i.Labels,
		Address: i.Address, Version: i.Version, Spec: protobuf.ToAny(i.Spec),
	}, err
}

// Platform tells what a sandbox's containers must be made for.
func (s *Sandboxes) Platform(ctx context.Context, r *wire.ControllerPlatformRequest) (*wire.ControllerPlatformResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	p, err := c.Platform(ctx, r.SandboxID)
	return &wire.ControllerPlatformResponse{Platform: protobuf.ToPlatform(p)}, err
}

// Stop ends a sandbox.
func (s *Sandboxes) Stop(ctx context.Context, r *wire.ControllerStopRequest) (*wire.ControllerStopResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	return &wire.ControllerStopResponse{}, c.Stop(ctx, r.SandboxID, time.Duration(r.TimeoutSecs)*time.Second)
}

// Wait returns when a sandbox has ended.
func (s *Sandboxes) Wait(ctx context.Context, r *wire.ControllerWaitRequest) (*wire.ControllerWaitResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	x, err := c.Wait(ctx, r.SandboxID)
	return &wire.ControllerWaitResponse{ExitStatus: x.Status, ExitedAt: protobuf.ToTime(x.At)}, err
}

// Status tells how a sandbox is.
func (s *Sandboxes) Status(ctx context.Context, r *wire.ControllerStatusRequest) (*wire.ControllerStatusResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	st, err := c.Status(ctx, r.SandboxID, r.Verbose)
	return &wire.ControllerStatusResponse{
		SandboxID: r.SandboxID, Pid: st.Pid, State: st.State, Info: st.Info, CreatedAt: protobuf.ToTime(st.Created),
		ExitedAt: protobuf.ToTime(st.Exited), Extra: protobuf.ToAny(st.Extra), Address: st.Address, Version: st.Version,
	}, err
}

// Shutdown removes what is left of a sandbox.
func (s *Sandboxes) Shutdown(ctx context.Context, r *wire.ControllerShutdownRequest) (*wire.ControllerShutdownResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	return &wire.ControllerShutdownResponse{}, c.Shutdown(ctx, r.SandboxID)
}

// Metrics measures a sandbox.
func (s *Sandboxes) Metrics(ctx context.Context, r *wire.ControllerMetricsRequest) (*wire.ControllerMetricsResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	m, err := c.Metrics(ctx, r.SandboxID)
	var out *types.Metric
	if err == nil {
		out = protobuf.ToMetric(m)
	}
	return &wire.ControllerMetricsResponse{Metrics: out}, err
}

// Update hands a changed sandbox over.
func (s *Sandboxes) Update(ctx context.Context, r *wire.ControllerUpdateRequest) (*wire.ControllerUpdateResponse, error) {
	c, err := s.find(r.Sandboxer)
	if err != nil {
		return nil, err
	}
	if r.Sandbox == nil {
		return nil, fmt.Errorf("the update of sandbox %q has no sandbox: %w", r.SandboxID, errdefs.ErrInvalidArgument)
	}
	return &wire.ControllerUpdateResponse{}, c.Update(ctx, r.SandboxID, protobuf.FromSandbox(r.Sandbox), r.Fields...)
}
