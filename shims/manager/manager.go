// Package manager starts shims, finds them again after a restart of the daemon,
// lets others adopt the containers of those that died, and cleans up.
//
// # Files
//
// A container's folder is <state>/<plugin>/<namespace>/<id> (the bundle):
// config.json, rootfs and bootstrap.json, which says where its shim listens. It is
// removed when the task is deleted; what a crash leaves is found at the next start.
// Shims of Orlop that hold many containers listen in <state>/s.
//
// # Shims
//
// A group is a shim of Orlop with room for more containers. One is started ahead of
// need, the next when it is three quarters full. A container that chose a runtime program or
// another shim has a shim of its own.
//
// # Locks
//
// Manager.placing is held while a group is chosen or started, Manager.mu guards the
// maps and counts, Task.mu a task's shim; they are taken in that order.
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
	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/event"
	"github.com/orlop/orlop/core/namespaces"
)

// Manager holds the connections to all shims. It is safe for concurrent use.
type Manager struct {
	cfg     Config
	state   string // folder of bundles
	sockets string // folder of the sockets of groups
	address string // the daemon's socket, told to shims
	events  event.Publisher
	lock    *os.File // keeps other managers off the state

	placing sync.Mutex
	mu      sync.Mutex
	closed  bool
	tasks   map[key]*Task
	group   *shim // takes the next containers; nil at first
	next    *shim // is ready to follow it, or nil
	stocks  sync.WaitGroup
}

type key struct{ namespace, id string }

// startWait bounds how long a shim may take to start, and loadWait to answer
// after a restart.
const (
	startWait = 10 * time.Second
	loadWait  = 3 * time.Second
)

// Where says where a manager keeps things and whom its shims report to.
type Where struct {
	State   string // folder of bundles
	Sockets string // folder of sockets; its path must be short
	Address string // the daemon's socket
}

// Open finds the shims of an earlier run; the containers of dead ones are adopted.
func Open(ctx context.Context, cfg Config, at Where, bus event.Publisher) (*Manager, error) {
	m := &Manager{cfg: cfg, state: at.State, sockets: at.Sockets, address: at.Address, events: bus, tasks: map[key]*Task{}}
	for _, dir := range []string{m.state, m.sockets} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if m.lock, err = lockState(m.state); err != nil {
		return nil, err
	}
	if err := m.load(ctx); err != nil {
		return nil, errors.Join(err, m.lock.Close())
	}
	m.stocks.Go(m.stock)
	return m, nil
}

// lockState makes sure that no other daemon holds the same containers.
func lockState(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("state %s is in use: another daemon holds its containers: %w", dir, errdefs.ErrUnavailable), f.Close())
	}
	return f, nil
}

// Get returns the task of a container.
func (m *Manager) Get(ctx context.Context, id string) (*Task, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tasks[key{ns, id}]
	if !ok {
		return nil, fmt.Errorf("task of container %q: %w", id, errdefs.ErrNotFound)
	}
	return t, nil
}

// List returns the tasks of the context's namespace.
func (m *Manager) List(ctx context.Context) ([]*Task, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*Task
	for k, t := range m.tasks {
		if k.namespace == ns {
			out = append(out, t)
		}
	}
	return out, nil
}

// Create makes a task. Spec is the OCI runtime spec as JSON.
func (m *Manager) Create(ctx context.Context, runtime string, spec []byte, req *wire.CreateTaskRequest) (*wire.CreateTaskResponse, error) {
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
	s, err := m.choose(ctx, k, runtime, req)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("shim for container %q: %w", req.ID, err), os.RemoveAll(bundle))
	}
	resp := &wire.CreateTaskResponse{}
	if err := s.call(ctx, "Create", req, resp); err != nil {
		return nil, errors.Join(err, m.undo(ctx, k, s, bundle, err))
	}
	t := newTask(k, bundle, s)
	t.watchPid(resp.Pid)
	m.add(t)
	return resp, nil
}

// undo cleans up after a creation that failed; the shim has done so itself, unless
// it died or can't be asked.
func (m *Manager) undo(ctx context.Context, k key, s *shim, bundle string, why error) error {
	ctx = context.WithoutCancel(ctx)
	m.release(ctx, s)
	gone := errors.Is(why, errGone) // which is known before the channel says so
	select {
	case <-s.gone:
		gone = true
	default:
	}
	if gone {
		if _, err := m.deleteBinary(ctx, k, bundle, s.binary); err != nil {
			return err
		}
	}
	return os.RemoveAll(bundle)
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

// choose finds or starts the shim for a new container, and writes down which.
func (m *Manager) choose(ctx context.Context, k key, name string, req *wire.CreateTaskRequest) (*shim, error) {
	r, err := m.runtime(name)
	if err != nil {
		return nil, err
	}
	program, err := withDefaults(r, req)
	if err != nil {
		return nil, err
	}
	if filepath.Base(r.Shim) != ownShim || program {
		return m.startSingle(ctx, k, r.Shim, req.Bundle)
	}
	s, err := m.place(ctx)
	if err != nil {
		return nil, err
	}
	if err := writeBootstrap(req.Bundle, s); err != nil {
		m.release(ctx, s)
		return nil, err
	}
	return s, nil
}

// withDefaults puts what the config says of a runtime into a request that has no
// options, and tells whether a runtime program was chosen.
func withDefaults(r Runtime, req *wire.CreateTaskRequest) (program bool, err error) {
	if req.Options.GetTypeUrl() != "" {
		v, err := typeurl.UnmarshalAny(req.Options)
		if err != nil {
			return false, nil // another shim's: it will know
		}
		o, ok := v.(*options.Options)
		if !ok || o.BinaryName != "" || r.Program == "" {
			return ok && o.BinaryName != "", nil
		}
		o.BinaryName = r.Program
		return true, setOptions(req, o)
	}
	if r.Program == "" && !r.SystemdCgroup {
		return false, nil
	}
	return r.Program != "", setOptions(req, &options.Options{BinaryName: r.Program, SystemdCgroup: r.SystemdCgroup})
}

func setOptions(req *wire.CreateTaskRequest, o *options.Options) error {
	a, err := typeurl.MarshalAny(o)
	if err != nil {
		return err
	}
	req.Options = &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}
	return nil
}

func (m *Manager) add(t *Task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks[t.key] = t
}

// drop forgets a task; false if somebody else has.
func (m *Manager) drop(t *Task) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tasks[t.key] != t {
		return false
	}
	delete(m.tasks, t.key)
	return true
}

// Delete deletes an ended task.
func (m *Manager) Delete(ctx context.Context, id string) (*wire.DeleteResponse, error) {
	t, err := m.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	resp := &wire.DeleteResponse{}
	if err := t.Call(ctx, "Delete", &wire.DeleteRequest{ID: id}, resp); err != nil {
		return nil, err
	}
	// The bundle goes before the name does: who sees that the task is gone may make it anew.
	err = os.RemoveAll(t.Bundle)
	if m.drop(t) {
		t.close()
		m.release(context.WithoutCancel(ctx), t.shim())
	}
	return resp, err
}

// cleanUp removes what a dead shim left and tells of its container's end.
func (m *Manager) cleanUp(ctx context.Context, k key, bundle string, pid uint32) {
	_, binary, _ := readBootstrap(bundle)
	code, err := m.deleteBinary(ctx, k, bundle, binary)
	if err != nil {
		log.G(ctx).WithError(err).Warnf("clean up after container %s/%s", k.namespace, k.id)
	}
	if err := os.RemoveAll(bundle); err != nil {
		log.G(ctx).WithError(err).Warn("bundle")
	}
	now := timestamppb.Now()
	err = errors.Join(
		m.events.Publish(ctx, "/tasks/exit", &events.TaskExit{ContainerID: k.id, ID: k.id, Pid: pid, ExitStatus: code, ExitedAt: now}),
		m.events.Publish(ctx, "/tasks/delete", &events.TaskDelete{ContainerID: k.id, Pid: pid, ExitStatus: code, ExitedAt: now}))
	if err != nil {
		log.G(ctx).WithError(err).Warn("event")
	}
}

// Close lets go of the shims; they and their containers stay. Empty ones end.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	tasks := m.tasks
	m.tasks = map[key]*Task{}
	m.mu.Unlock()
	m.stocks.Wait()
	m.mu.Lock()
	empty := []*shim{m.group, m.next}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), loadWait)
	defer cancel()
	for _, s := range empty {
		if s != nil {
			s.shutdown(ctx)
		}
	}
	var errs []error
	for _, t := range tasks {
		t.close()
		errs = append(errs, t.shim().Conn.Close())
	}
	return errors.Join(append(errs, m.lock.Close())...)
}
