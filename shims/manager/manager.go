// Package manager starts shims, finds them again after a restart of the daemon,
// and cleans up after those that died.
//
// A container's folder is <state>/<namespace>/<id> (the bundle): config.json,
// rootfs and bootstrap.json, which says where its shim listens. It is removed
// when the task is deleted; what a crash leaves is found at the next start.
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
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/namespaces"
)

// Config says how to find shims.
type Config struct {
	// Runtimes maps runtime names to shim programs. A name that isn't listed is
	// turned into a program's name: io.containerd.runc.v2 is containerd-shim-runc-v2.
	Runtimes map[string]string `toml:"runtimes"`
}

// DefaultConfig lets the name that clients use by default mean Orlop's shim.
func DefaultConfig() Config {
	return Config{Runtimes: map[string]string{
		"io.containerd.orlop.v1": "containerd-shim-orlop-v1",
		"io.containerd.runc.v2":  "containerd-shim-orlop-v1",
	}}
}

// Manager holds the connections to all shims. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	state   string // folder of bundles
	address string // the daemon's socket, told to shims
	events  event.Publisher

	mu    sync.Mutex
	shims map[key]*Shim
}

type key struct{ namespace, id string }

// startWait bounds how long a shim may take to start, and loadWait to answer
// after a restart.
const (
	startWait = 10 * time.Second
	loadWait  = 3 * time.Second
)

// Open finds the shims of an earlier run; dead ones are cleaned up.
func Open(ctx context.Context, cfg Config, state, address string, bus event.Publisher) (*Manager, error) {
	m := &Manager{cfg: cfg, state: state, address: address, events: bus, shims: map[key]*Shim{}}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	bundles, err := filepath.Glob(filepath.Join(state, "*", "*"))
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, bundle := range bundles {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			m.load(ctx, bundle)
		})
	}
	wg.Wait()
	return m, nil
}

// load connects to the shim of a bundle, or cleans up after it.
func (m *Manager) load(ctx context.Context, bundle string) {
	k := key{filepath.Base(filepath.Dir(bundle)), filepath.Base(bundle)}
	ctx, cancel := context.WithTimeout(namespaces.With(ctx, k.namespace), loadWait+startWait)
	defer cancel()
	s, err := m.connect(ctx, k, bundle)
	if err == nil {
		m.add(s)
		return
	}
	log.G(ctx).WithError(err).Warnf("the shim of container %s/%s is gone, cleaning up", k.namespace, k.id)
	m.cleanUp(ctx, k, bundle, 0)
}

func (m *Manager) connect(ctx context.Context, k key, bundle string) (*Shim, error) {
	b, binary, err := readBootstrap(bundle)
	if err != nil {
		return nil, err
	}
	s, err := dial(k, bundle, binary, b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	if err := s.Call(ctx, "Connect", &task.ConnectRequest{ID: k.id}, &task.ConnectResponse{}); err != nil {
		s.Conn.Close()
		return nil, err
	}
	return s, nil
}

// add keeps a shim and watches for its death.
func (m *Manager) add(s *Shim) {
	m.mu.Lock()
	m.shims[s.key] = s
	m.mu.Unlock()
	go func() {
		<-s.closed
		m.died(s)
	}()
}

// died cleans up after a shim that went without being deleted.
func (m *Manager) died(s *Shim) {
	m.mu.Lock()
	current := m.shims[s.key] == s
	delete(m.shims, s.key)
	m.mu.Unlock()
	if !current {
		return
	}
	ctx, cancel := context.WithTimeout(namespaces.With(context.Background(), s.key.namespace), startWait)
	defer cancel()
	log.G(ctx).Warnf("the shim of container %s/%s died, cleaning up", s.key.namespace, s.key.id)
	m.cleanUp(ctx, s.key, s.Bundle, s.initPid())
}

// cleanUp removes what a dead shim left and tells of its container's end.
func (m *Manager) cleanUp(ctx context.Context, k key, bundle string, pid uint32) {
	_, binary, _ := readBootstrap(bundle)
	exit, err := m.deleteBinary(ctx, k, bundle, binary)
	if err != nil {
		log.G(ctx).WithError(err).Warnf("clean up after container %s/%s", k.namespace, k.id)
	}
	if err := os.RemoveAll(bundle); err != nil {
		log.G(ctx).WithError(err).Warn("bundle")
	}
	err = errors.Join(
		m.events.Publish(ctx, "/tasks/exit", &events.TaskExit{ContainerID: k.id, ID: k.id, Pid: pid, ExitStatus: exit, ExitedAt: timestamppb.Now()}),
		m.events.Publish(ctx, "/tasks/delete", &events.TaskDelete{ContainerID: k.id, Pid: pid, ExitStatus: exit, ExitedAt: timestamppb.Now()}))
	if err != nil {
		log.G(ctx).WithError(err).Warn("event")
	}
}

// Get returns the shim of a container.
func (m *Manager) Get(ctx context.Context, id string) (*Shim, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.shims[key{ns, id}]
	if !ok {
		return nil, fmt.Errorf("task of container %q: %w", id, errdefs.ErrNotFound)
	}
	return s, nil
}

// List returns the shims of the context's namespace.
func (m *Manager) List(ctx context.Context) ([]*Shim, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Shim
	for k, s := range m.shims {
		if k.namespace == ns {
			out = append(out, s)
		}
	}
	return out, nil
}

// Create starts a shim and makes the task in it. Spec is the OCI runtime spec.
func (m *Manager) Create(ctx context.Context, runtime string, spec []byte, req *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	if err := namespaces.Validate(req.ID); err != nil {
		return nil, err
	}
	k := key{ns, req.ID}
	bundle, err := m.newBundle(k, spec)
	if err != nil {
		return nil, err
	}
	req.Bundle = bundle
	s, err := m.start(ctx, k, runtime, bundle)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start shim for container %q: %w", req.ID, err), os.RemoveAll(bundle))
	}
	resp := &task.CreateTaskResponse{}
	if err := s.Call(ctx, "Create", req, resp); err != nil {
		s.shutdown(context.WithoutCancel(ctx))
		return nil, errors.Join(err, os.RemoveAll(bundle))
	}
	s.setPid(resp.Pid)
	m.add(s)
	return resp, nil
}

func (m *Manager) newBundle(k key, spec []byte) (string, error) {
	bundle := filepath.Join(m.state, k.namespace, k.id)
	if err := os.MkdirAll(filepath.Dir(bundle), 0o711); err != nil {
		return "", err
	}
	if err := os.Mkdir(bundle, 0o700); errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("task of container %q: %w", k.id, errdefs.ErrAlreadyExists)
	} else if err != nil {
		return "", err
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600),
		os.Mkdir(filepath.Join(bundle, "rootfs"), 0o711))
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(bundle))
	}
	return bundle, nil
}

// Delete deletes an ended task and ends its shim.
func (m *Manager) Delete(ctx context.Context, id string) (*task.DeleteResponse, error) {
	s, err := m.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	resp := &task.DeleteResponse{}
	if err := s.Call(ctx, "Delete", &task.DeleteRequest{ID: id}, resp); err != nil {
		return nil, err
	}
	m.mu.Lock()
	delete(m.shims, s.key)
	m.mu.Unlock()
	s.shutdown(context.WithoutCancel(ctx))
	return resp, os.RemoveAll(s.Bundle)
}

// Close lets go of the shims; they and their containers stay.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.shims
	m.shims = map[key]*Shim{}
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Conn.Close())
	}
	return errors.Join(errs...)
}

// Call makes one call to the shim; errors have errdefs' classes.
func (s *Shim) Call(ctx context.Context, method string, req, resp any) error {
	return errgrpc.ToNative(s.Client.Call(ctx, method, req, resp))
}

// shutdown asks the shim to end.
func (s *Shim) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	if err := s.Call(ctx, "Shutdown", &task.ShutdownRequest{ID: s.key.id}, &emptypb.Empty{}); err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Debug("shutdown of a shim")
	}
	s.Conn.Close()
}
