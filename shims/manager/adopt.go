package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
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
	sockets, err := os.ReadDir(m.sockets)
	if err != nil {
		return err
	}
	found := map[string][]*Task{} // by the address of their shim
	binaries := map[string]string{}
	for _, bundle := range bundles {
		k := key{filepath.Base(filepath.Dir(bundle)), filepath.Base(bundle)}
		at, binary, err := readBootstrap(bundle)
		if errors.Is(err, fs.ErrNotExist) {
			m.cleanUp(namespaces.With(ctx, k.namespace), k, bundle, 0) // its making was cut off early
			continue
		}
		if err != nil {
			return fmt.Errorf("container %s/%s: %w", k.namespace, k.id, err)
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
	if err := ctx.Err(); err != nil {
		return err // the daemon's start was broken off
	}
	m.sweep(ctx, sockets, found)
	return nil
}

// reconnect finds the tasks of one shim, or lets them be adopted if it is dead. One
// that lives and doesn't answer keeps them: nobody else may touch what it holds.
func (m *Manager) reconnect(ctx context.Context, tasks []*Task, binary string) {
	at := tasks[0].held.at
	s, err := dial(at, binary)
	if err != nil {
		log.G(ctx).WithError(err).Warnf("a shim with %d containers is gone", len(tasks))
		for _, t := range tasks {
			m.rescue(ctx, t, m.isGroup(at), binary)
		}
		return
	}
	if err := s.hello(ctx, tasks[0].key); err != nil {
		log.G(ctx).WithError(err).Warnf("a shim with %d containers does not answer", len(tasks))
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
	path, ok := strings.CutPrefix(b.Address, "unix://")
	return ok && filepath.Dir(path) == filepath.Clean(m.sockets)
}

// hello checks that a shim answers, and takes hold of its process.
func (s *shim) hello(ctx context.Context, k key) error {
	ctx, cancel := context.WithTimeout(namespaces.With(ctx, k.namespace), loadWait)
	defer cancel()
	resp := &wire.ConnectResponse{}
	if err := s.call(ctx, "Connect", &wire.ConnectRequest{ID: k.id}, resp); err != nil {
		return err
	}
	s.holdProcess(int(resp.ShimPid))
	return nil
}

// found asks whether the shim holds the task. One that it has never made, or has
// deleted, leaves a bundle to clean up.
func (m *Manager) found(ctx context.Context, t *Task) bool {
	ctx = namespaces.With(ctx, t.key.namespace)
	short, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	resp := &wire.StateResponse{}
	err := t.shim().call(short, "State", &wire.StateRequest{ID: t.key.id}, resp)
	if errdefs.IsNotFound(err) {
		m.cleanUp(ctx, t.key, t.Bundle, 0)
		return false
	}
	if resp.Pid > 0 {
		t.watchPid(resp.Pid)
	}
	return true
}

// sweep removes sockets and empty shims that an earlier run has left.
func (m *Manager) sweep(ctx context.Context, entries []os.DirEntry, used map[string][]*Task) {
	for _, e := range entries {
		path := filepath.Join(m.sockets, e.Name())
		if used["unix://"+strings.TrimSuffix(path, logSuffix)] != nil {
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

// How often adoption is tried, and the first pause between two tries, which doubles.
const (
	adoptTries = 6
	adoptPause = 100 * time.Millisecond
)

// rescue lets another shim adopt the task of a dead one; false says that it is not
// to be had. Only what nobody can adopt is cleaned up: if adoption fails for other
// reasons the container is left alone, to be tried again at the next start.
func (m *Manager) rescue(ctx context.Context, t *Task, group bool, binary string) bool {
	ctx = namespaces.With(ctx, t.key.namespace)
	err := error(errdefs.ErrNotImplemented)
	pause := adoptPause
	for try := 0; group && try < adoptTries && ctx.Err() == nil; try++ {
		if err = m.adopt(ctx, t); err == nil {
			log.G(ctx).Infof("container %s/%s was adopted", t.key.namespace, t.key.id)
			return true
		}
		if errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
			break
		}
		log.G(ctx).WithError(err).Warnf("container %s/%s could not be adopted", t.key.namespace, t.key.id)
		time.Sleep(pause)
		pause *= 2
	}
	if errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
		m.cleanUp(ctx, t.key, t.Bundle, t.pid)
	}
	return false
}

func (m *Manager) adopt(ctx context.Context, t *Task) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
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
