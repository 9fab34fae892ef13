package manager

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	wire "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/shims"
)

// loads is how many shims are talked to at once after a restart.
const loads = 16

// load finds the tasks of an earlier run by their bundles.
func (m *Manager) load(ctx context.Context) error {
	bundles, err := filepath.Glob(filepath.Join(m.state, "*", "*"))
	if err != nil {
		return err
	}
	found := map[string][]*Task{} // by the address of their shim
	binaries := map[string]string{}
	for _, bundle := range bundles {
		k := key{filepath.Base(filepath.Dir(bundle)), filepath.Base(bundle)}
		at, binary, err := readBootstrap(bundle)
		if err != nil {
			m.cleanUp(namespaces.With(ctx, k.namespace), k, bundle, 0)
			continue
		}
		t := newTask(k, bundle, &shim{at: at})
		found[at.Address] = append(found[at.Address], t)
		binaries[at.Address] = binary
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, loads)
	for address, tasks := range found {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			m.reconnect(ctx, tasks, binaries[address])
		})
	}
	wg.Wait()
	m.sweep(ctx, found)
	return nil
}

// reconnect finds the tasks of one shim, or lets them be adopted.
func (m *Manager) reconnect(ctx context.Context, tasks []*Task, binary string) {
	at := tasks[0].held.at
	s, err := dial(at, binary)
	if err == nil {
		err = s.hello(ctx, tasks[0].key)
	}
	if err != nil {
		log.G(ctx).WithError(err).Warnf("a shim with %d containers is gone", len(tasks))
		for _, t := range tasks {
			m.rescue(ctx, t, m.isGroup(at), binary)
		}
		return
	}
	s.group = m.isGroup(at)
	for _, t := range tasks {
		t.held = s
		if m.found(ctx, t) {
			s.count++
			m.add(t)
		}
	}
	if s.count == 0 {
		s.shutdown(ctx)
		return
	}
	go m.attend(s)
}

// isGroup tells a shim of many by where it listens.
func (m *Manager) isGroup(b shims.Bootstrap) bool {
	return filepath.Dir(b.Address) == "unix://"+m.sockets
}

// hello checks that a shim answers, and takes hold of its process.
func (s *shim) hello(ctx context.Context, k key) error {
	ctx, cancel := context.WithTimeout(namespaces.With(ctx, k.namespace), loadWait)
	defer cancel()
	resp := &wire.ConnectResponse{}
	if err := s.call(ctx, "Connect", &wire.ConnectRequest{ID: k.id}, resp); err != nil {
		s.Conn.Close()
		return err
	}
	s.holdProcess(int(resp.ShimPid))
	return nil
}

// found asks whether the shim holds the task. One that it has never made, or has
// deleted, leaves a bundle to clean up.
func (m *Manager) found(ctx context.Context, t *Task) bool {
	ctx = namespaces.With(ctx, t.key.namespace)
	short, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	resp := &wire.StateResponse{}
	err := t.Call(short, "State", &wire.StateRequest{ID: t.key.id}, resp)
	if errdefs.IsNotFound(err) {
		m.cleanUp(ctx, t.key, t.Bundle, 0)
		return false
	}
	t.watchPid(resp.Pid)
	return true
}

// sweep removes sockets and empty shims that an earlier run has left.
func (m *Manager) sweep(ctx context.Context, used map[string][]*Task) {
	entries, err := os.ReadDir(m.sockets)
	if err != nil {
		log.G(ctx).WithError(err).Warn("sockets of shims")
		return
	}
	for _, e := range entries {
		path := filepath.Join(m.sockets, e.Name())
		if used["unix://"+path] != nil || filepath.Ext(path) == ".log" && used["unix://"+path[:len(path)-4]] != nil {
			continue
		}
		if s, err := dial(shims.Bootstrap{Version: 3, Address: "unix://" + path}, ""); err == nil {
			s.shutdown(ctx)
		}
		os.Remove(path)
	}
}

// attend waits for the end of a shim and rescues what it held.
func (m *Manager) attend(s *shim) {
	<-s.gone
	m.mu.Lock()
	if m.group == s {
		m.group = nil
	}
	if m.next == s {
		m.next = nil
	}
	var tasks []*Task
	for _, t := range m.tasks {
		if t.shim() == s {
			tasks = append(tasks, t)
		}
	}
	m.mu.Unlock()
	if len(tasks) == 0 {
		if s.pidfd != nil {
			s.pidfd.Close()
		}
		return
	}
	if s.group {
		s.end()
	}
	log.L.Warnf("a shim with %d containers died", len(tasks))
	for _, t := range tasks {
		if !m.rescue(context.Background(), t, s.group, s.binary) {
			m.drop(t)
			t.move(nil)
			t.close()
		}
	}
}

// rescue lets another shim adopt the task of a dead one; false says that it is gone.
func (m *Manager) rescue(ctx context.Context, t *Task, group bool, binary string) bool {
	ctx, cancel := context.WithTimeout(namespaces.With(ctx, t.key.namespace), startWait)
	defer cancel()
	err := error(errdefs.ErrNotImplemented)
	if group {
		err = m.adopt(ctx, t)
	}
	if err == nil {
		log.G(ctx).Infof("container %s/%s was adopted", t.key.namespace, t.key.id)
		return true
	}
	if !errdefs.IsNotFound(err) && !errdefs.IsNotImplemented(err) {
		log.G(ctx).WithError(err).Warnf("container %s/%s could not be adopted", t.key.namespace, t.key.id)
	}
	m.cleanUp(ctx, t.key, t.Bundle, t.pid)
	return false
}

func (m *Manager) adopt(ctx context.Context, t *Task) error {
	req := &wire.CreateTaskRequest{ID: t.key.id, Bundle: t.Bundle}
	if code, ok := t.exitCode(); ok {
		a, err := typeurl.MarshalAny(&wire.WaitResponse{ExitStatus: code, ExitedAt: timestamppb.Now()})
		if err != nil {
			return err
		}
		req.Options = &anypb.Any{TypeUrl: a.GetTypeUrl(), Value: a.GetValue()}
	}
	s, err := m.place(ctx)
	if err != nil {
		return err
	}
	resp := &wire.CreateTaskResponse{}
	if err := errors.Join(writeBootstrap(t.Bundle, s), s.call(ctx, "Adopt", req, resp)); err != nil {
		m.release(context.WithoutCancel(ctx), s)
		return err
	}
	t.move(s)
	m.add(t)
	if t.pidfd == nil {
		t.watchPid(resp.Pid)
	}
	return nil
}
