package manager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"github.com/orlop/orlop/shims"
)

// logSuffix is what a shim's log is called behind its socket's name.
const logSuffix = ".log"

// place finds a group with room and takes a place in it.
func (m *Manager) place(ctx context.Context) (*shim, error) {
	m.placing.Lock()
	defer m.placing.Unlock()
	s, err := m.current(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.count++
	if m.next == nil && s.count >= m.cfg.ContainersPerShim*3/4 && !m.closed {
		m.stocks.Go(m.stock)
	}
	return s, nil
}

// current returns the group that takes the next container. The caller holds placing.
func (m *Manager) current(ctx context.Context) (*shim, error) {
	m.mu.Lock()
	s := m.group
	if !m.hasRoom(s) {
		s, m.next = m.next, nil
	}
	ok := m.hasRoom(s)
	m.mu.Unlock()
	if !ok {
		var err error
		if s, err = m.startGroup(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	m.group = s
	m.mu.Unlock()
	return s, nil
}

// hasRoom tells whether a group lives and can take a container. The caller holds mu.
func (m *Manager) hasRoom(s *shim) bool {
	if s == nil || s.count >= m.cfg.ContainersPerShim {
		return false
	}
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

// stock starts a group ahead of need.
func (m *Manager) stock() {
	m.mu.Lock()
	enough := m.closed || m.next != nil
	m.mu.Unlock()
	if enough {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	s, err := m.startGroup(ctx)
	if err != nil {
		log.L.WithError(err).Warn("no shim could be started ahead of need")
		return
	}
	m.mu.Lock()
	spare := m.closed || m.next != nil
	if !spare {
		m.next = s
	}
	m.mu.Unlock()
	if spare {
		s.shutdown(ctx)
	}
}

// release gives a place in a shim back. One that is empty and takes no more
// containers ends.
func (m *Manager) release(ctx context.Context, s *shim) {
	m.mu.Lock()
	s.count--
	end := s.count <= 0 && s != m.group && s != m.next
	m.mu.Unlock()
	if end {
		s.shutdown(ctx)
	}
}

// startGroup starts a shim that can hold many containers. The socket exists
// before the shim does, so that there is nothing to wait for.
func (m *Manager) startGroup(context.Context) (*shim, error) {
	binary, err := findShim(ownShim)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(m.sockets, strings.ToLower(rand.Text()[:8]))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket of a shim: %w", err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	cmd, err := m.serveCommand(binary, path, l)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	s, err := dial(shims.Bootstrap{Version: 3, Address: "unix://" + path, Protocol: "ttrpc"}, binary)
	if err != nil {
		cmd.Process.Kill()
		return nil, errors.Join(err, os.Remove(path))
	}
	s.group = true
	s.holdProcess(cmd.Process.Pid)
	go m.attend(s)
	return s, nil
}

// serveCommand starts the shim program with its socket as descriptor 3.
func (m *Manager) serveCommand(binary, path string, l *net.UnixListener) (*exec.Cmd, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	logFile, err := os.OpenFile(path+logSuffix, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command(binary, "-address", m.address, "-socket", path)
	cmd.Dir = "/"
	cmd.Env = shimEnv(m.address)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		cmd.Wait() // how a shim ends is told by its connection
		os.Remove(path + ".log")
		os.Remove(path)
	}()
	return cmd, nil
}

// shimEnv is the environment of shims.
func shimEnv(address string) []string {
	// The folder for temporary files may be the daemon's own, which its next start sweeps.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TMPDIR=") })
	return append(env, "TTRPC_ADDRESS="+address+".ttrpc", "GRPC_ADDRESS="+address, "MAX_SHIM_VERSION=3", "GOMAXPROCS=2")
}

// findShim looks for a shim program beside the daemon, then on PATH.
func findShim(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s beside the daemon or on PATH: %w", name, errdefs.ErrNotFound)
	}
	return path, nil
}
