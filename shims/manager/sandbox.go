package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	wire "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/sandbox"
)

// sandboxService is the shims' sandbox API.
const sandboxService = "containerd.runtime.sandbox.v1.Sandbox"

// Sandboxes is the sandbox controller over shims: each sandbox has a shim of its
// own that speaks the sandbox API. Its folder is <state>/<namespace>/<id>, like a
// container's bundle; sandboxes are found again after a restart of the daemon.
type Sandboxes struct {
	m     *Manager
	state string

	mu   sync.Mutex
	held map[key]*box
}

// box is a sandbox's shim, and where its files are.
type box struct {
	*shim
	key    key
	bundle string
}

var _ sandbox.Controller = (*Sandboxes)(nil)

// OpenSandboxes finds the sandboxes of an earlier run; dead ones are cleaned up.
func OpenSandboxes(ctx context.Context, m *Manager, state string) (*Sandboxes, error) {
	s := &Sandboxes{m: m, state: state, held: map[key]*box{}}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	bundles, err := filepath.Glob(filepath.Join(state, "*", "*"))
	if err != nil {
		return nil, err
	}
	for _, bundle := range bundles {
		s.load(ctx, bundle)
	}
	return s, nil
}

func (s *Sandboxes) load(ctx context.Context, bundle string) {
	k := key{filepath.Base(filepath.Dir(bundle)), filepath.Base(bundle)}
	ctx, cancel := context.WithTimeout(namespaces.With(ctx, k.namespace), loadWait+startWait)
	defer cancel()
	sh, err := s.connect(ctx, k, bundle)
	if err == nil {
		s.add(sh)
		return
	}
	log.G(ctx).WithError(err).Warnf("the shim of sandbox %s/%s is gone, cleaning up", k.namespace, k.id)
	s.cleanUp(ctx, k, bundle)
}

func (s *Sandboxes) connect(ctx context.Context, k key, bundle string) (*box, error) {
	b, binary, err := readBootstrap(bundle)
	if err != nil {
		return nil, err
	}
	conn, err := dial(b, binary)
	if err != nil {
		return nil, err
	}
	sh := &box{conn, k, bundle}
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	if err := callSandbox(ctx, sh, "PingSandbox", &wire.PingRequest{SandboxID: k.id}, &wire.PingResponse{}); err != nil {
		return nil, errors.Join(err, sh.Conn.Close())
	}
	return sh, nil
}

// add keeps a shim and cleans up when it dies.
func (s *Sandboxes) add(sh *box) {
	s.mu.Lock()
	s.held[sh.key] = sh
	s.mu.Unlock()
	go func() {
		<-sh.gone
		s.mu.Lock()
		current := s.held[sh.key] == sh
		delete(s.held, sh.key)
		s.mu.Unlock()
		if !current {
			return
		}
		ctx, cancel := context.WithTimeout(namespaces.With(context.Background(), sh.key.namespace), startWait)
		defer cancel()
		log.G(ctx).Warnf("the shim of sandbox %s/%s died, cleaning up", sh.key.namespace, sh.key.id)
		s.cleanUp(ctx, sh.key, sh.bundle)
	}()
}

// cleanUp removes what a dead shim left and tells of its sandbox's end.
func (s *Sandboxes) cleanUp(ctx context.Context, k key, bundle string) {
	_, binary, _ := readBootstrap(bundle)
	exit, err := s.m.deleteBinary(ctx, k, bundle, binary)
	err = errors.Join(err, os.RemoveAll(bundle),
		s.m.events.Publish(ctx, "/sandboxes/exit", &events.SandboxExit{SandboxID: k.id, ExitStatus: exit, ExitedAt: timestamppb.Now()}))
	if err != nil {
		log.G(ctx).WithError(err).Warnf("clean up after sandbox %s/%s", k.namespace, k.id)
	}
}

// callSandbox makes one call of the sandbox API. A shim that hasn't got it is
// told apart from one that refuses.
func callSandbox(ctx context.Context, sh *box, method string, req, resp any) error {
	err := errgrpc.ToNative(sh.Conn.Call(ctx, sandboxService, method, req, resp))
	if errdefs.IsNotImplemented(err) {
		return fmt.Errorf("the shim of sandbox %q does not do %s: %w", sh.key.id, method, errdefs.ErrNotImplemented)
	}
	return err
}

func (s *Sandboxes) call(ctx context.Context, id, method string, req, resp any) error {
	sh, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	return callSandbox(ctx, sh, method, req, resp)
}

func (s *Sandboxes) get(ctx context.Context, id string) (*box, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sh, ok := s.held[key{ns, id}]
	if !ok {
		return nil, fmt.Errorf("sandbox %q has no shim: %w", id, errdefs.ErrNotFound)
	}
	return sh, nil
}

// Create starts the shim and makes the sandbox in it.
func (s *Sandboxes) Create(ctx context.Context, id string, o sandbox.CreateOptions) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	if err := namespaces.Validate(id); err != nil {
		return err
	}
	if o.Sandbox.Runtime.Name == "" {
		return fmt.Errorf("sandbox %q names no runtime: %w", id, errdefs.ErrInvalidArgument)
	}
	k := key{ns, id}
	bundle, err := s.newBundle(k, o.Sandbox.Spec)
	if err != nil {
		return err
	}
	conn, err := s.start(ctx, k, o.Sandbox.Runtime.Name, bundle)
	if err != nil {
		return errors.Join(fmt.Errorf("start shim for sandbox %q: %w", id, err), os.RemoveAll(bundle))
	}
	sh := &box{conn, k, bundle}
	options := o.Options
	if options == nil {
		options = o.Sandbox.Runtime.Options
	}
	err = callSandbox(ctx, sh, "CreateSandbox", &wire.CreateSandboxRequest{
		SandboxID: id, BundlePath: bundle, Rootfs: wireMounts(o.Rootfs), Options: wireAny(options), NetnsPath: o.NetNS, Annotations: o.Annotations,
	}, &wire.CreateSandboxResponse{})
	if err != nil {
		return errors.Join(err, s.abandon(context.WithoutCancel(ctx), sh))
	}
	s.add(sh)
	return s.m.events.Publish(ctx, "/sandboxes/create", &events.SandboxCreate{SandboxID: id})
}

// start starts a shim of the sandbox's own.
func (s *Sandboxes) start(ctx context.Context, k key, runtime, bundle string) (*shim, error) {
	r, err := s.m.runtime(runtime)
	if err != nil {
		return nil, err
	}
	return s.m.startSingle(ctx, k, r.Shim, bundle)
}

// abandon ends a shim that made no sandbox: by a call, and by its program's
// delete command in case it doesn't know the call.
func (s *Sandboxes) abandon(ctx context.Context, sh *box) error {
	sh.shutdown(ctx)
	_, err := s.m.deleteBinary(ctx, sh.key, sh.bundle, sh.binary)
	return errors.Join(err, os.RemoveAll(sh.bundle))
}

// newBundle makes the sandbox's folder, with its spec if it has one.
func (s *Sandboxes) newBundle(k key, spec typeurl.Any) (string, error) {
	bundle := filepath.Join(s.state, k.namespace, k.id)
	if err := os.MkdirAll(filepath.Dir(bundle), 0o711); err != nil {
		return "", err
	}
	if err := os.Mkdir(bundle, 0o700); errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("sandbox %q: %w", k.id, errdefs.ErrAlreadyExists)
	} else if err != nil {
		return "", err
	}
	err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o711)
	if spec != nil {
		err = errors.Join(err, os.WriteFile(filepath.Join(bundle, "config.json"), spec.GetValue(), 0o600))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(bundle))
	}
	return bundle, nil
}

// Start implements [sandbox.Controller].
func (s *Sandboxes) Start(ctx context.Context, id string) (sandbox.Instance, error) {
	sh, err := s.get(ctx, id)
	if err != nil {
		return sandbox.Instance{}, err
	}
	r := &wire.StartSandboxResponse{}
	if err := callSandbox(ctx, sh, "StartSandbox", &wire.StartSandboxRequest{SandboxID: id}, r); err != nil {
		return sandbox.Instance{}, err
	}
	i := sandbox.Instance{ID: id, Pid: r.Pid, Created: domainTime(r.CreatedAt), Address: sh.at.Protocol + "+" + sh.at.Address, Version: uint32(sh.at.Version), Spec: domainAny(r.Spec)}
	return i, s.m.events.Publish(ctx, "/sandboxes/start", &events.SandboxStart{SandboxID: id})
}

// Platform implements [sandbox.Controller].
func (s *Sandboxes) Platform(ctx context.Context, id string) (ocispec.Platform, error) {
	r := &wire.PlatformResponse{}
	err := s.call(ctx, id, "Platform", &wire.PlatformRequest{SandboxID: id}, r)
	p := r.GetPlatform()
	return ocispec.Platform{OS: p.GetOS(), Architecture: p.GetArchitecture(), Variant: p.GetVariant(), OSVersion: p.GetOsVersion()}, err
}

// Stop implements [sandbox.Controller].
func (s *Sandboxes) Stop(ctx context.Context, id string, timeout time.Duration) error {
	return s.call(ctx, id, "StopSandbox", &wire.StopSandboxRequest{SandboxID: id, TimeoutSecs: uint32(timeout / time.Second)}, &wire.StopSandboxResponse{})
}

// Wait implements [sandbox.Controller].
func (s *Sandboxes) Wait(ctx context.Context, id string) (sandbox.Exit, error) {
	r := &wire.WaitSandboxResponse{}
	if err := s.call(ctx, id, "WaitSandbox", &wire.WaitSandboxRequest{SandboxID: id}, r); err != nil {
		return sandbox.Exit{}, err
	}
	return sandbox.Exit{Status: r.ExitStatus, At: domainTime(r.ExitedAt)}, nil
}

// Status implements [sandbox.Controller].
func (s *Sandboxes) Status(ctx context.Context, id string, verbose bool) (sandbox.Status, error) {
	sh, err := s.get(ctx, id)
	if err != nil {
		return sandbox.Status{}, err
	}
	r := &wire.SandboxStatusResponse{}
	if err := callSandbox(ctx, sh, "SandboxStatus", &wire.SandboxStatusRequest{SandboxID: id, Verbose: verbose}, r); err != nil {
		return sandbox.Status{}, err
	}
	return sandbox.Status{
		ID: id, Pid: r.Pid, State: r.State, Info: r.Info, Created: domainTime(r.CreatedAt), Exited: domainTime(r.ExitedAt),
		Extra: domainAny(r.Extra), Address: sh.at.Protocol + "+" + sh.at.Address, Version: uint32(sh.at.Version),
	}, nil
}

// Shutdown implements [sandbox.Controller].
func (s *Sandboxes) Shutdown(ctx context.Context, id string) error {
	sh, err := s.get(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	err = callSandbox(ctx, sh, "ShutdownSandbox", &wire.ShutdownSandboxRequest{SandboxID: id}, &wire.ShutdownSandboxResponse{})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsUnavailable(err) && sh.alive() {
		return err
	}
	s.mu.Lock()
	delete(s.held, sh.key)
	s.mu.Unlock()
	return errors.Join(ignoreClosed(sh.Conn.Close()), os.RemoveAll(sh.bundle))
}

// alive reports whether the connection still stands: a shim may end before it
// answers the call to end.
func (s *box) alive() bool {
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Metrics implements [sandbox.Controller].
func (s *Sandboxes) Metrics(ctx context.Context, id string) (sandbox.Metric, error) {
	r := &wire.SandboxMetricsResponse{}
	if err := s.call(ctx, id, "SandboxMetrics", &wire.SandboxMetricsRequest{SandboxID: id}, r); err != nil {
		return sandbox.Metric{}, err
	}
	m := r.GetMetrics()
	return sandbox.Metric{At: domainTime(m.GetTimestamp()), ID: m.GetID(), Data: domainAny(m.GetData())}, nil
}

// Update implements [sandbox.Controller].
func (s *Sandboxes) Update(ctx context.Context, id string, x sandbox.Sandbox, fields ...string) error {
	return s.call(ctx, id, "UpdateSandbox", &wire.UpdateSandboxRequest{SandboxID: id, Fields: fields, Sandbox: &types.Sandbox{
		SandboxID: x.ID, Labels: x.Labels, Sandboxer: x.Sandboxer, Spec: wireAny(x.Spec), Extensions: wireAnys(x.Extensions),
		Runtime: &types.Sandbox_Runtime{Name: x.Runtime.Name, Options: wireAny(x.Runtime.Options)},
	}}, &wire.UpdateSandboxResponse{})
}

// Close lets go of the shims; they and their sandboxes stay.
func (s *Sandboxes) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.held
	s.held = map[key]*box{}
	var errs []error
	for _, sh := range all {
		errs = append(errs, sh.Conn.Close())
	}
	return errors.Join(errs...)
}

func wireMounts(list []mount.Mount) []*types.Mount {
	var out []*types.Mount
	for _, m := range list {
		out = append(out, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}

func wireAny(a typeurl.Any) *anypb.Any {
	if a == nil {
		return nil
	}
	return &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}
}

func wireAnys(m map[string]typeurl.Any) map[string]*anypb.Any {
	out := make(map[string]*anypb.Any, len(m))
	for k, v := range m {
		out[k] = wireAny(v)
	}
	return out
}

func domainAny(a *anypb.Any) typeurl.Any {
	if a == nil {
		return nil
	}
	return a
}

func domainTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
