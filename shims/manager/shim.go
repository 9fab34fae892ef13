package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/runtime/bootstrap/v1"
	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/internal/safefile"
	"github.com/orlop/orlop/shims"
)

// shim is a connection to a process that holds containers.
type shim struct {
	*shims.Client
	at     shims.Bootstrap
	binary string
	group  bool     // it holds many and can adopt
	pidfd  *os.File // of a group
	gone   chan struct{}
	count  int // containers, also those about to be made; Manager.mu
}

// errGone says that the shim's connection broke during a call.
var errGone = fmt.Errorf("the shim is gone: %w", errdefs.ErrUnavailable)

func dial(b shims.Bootstrap, binary string) (*shim, error) {
	conn, err := net.DialTimeout("unix", strings.TrimPrefix(b.Address, "unix://"), loadWait)
	if err != nil {
		return nil, err
	}
	s := &shim{at: b, binary: binary, gone: make(chan struct{})}
	client := ttrpc.NewClient(conn, ttrpc.WithOnClose(func() { close(s.gone) }))
	s.Client = &shims.Client{Conn: client, Version: b.Version}
	return s, nil
}

// call makes one call; errors have errdefs' classes.
func (s *shim) call(ctx context.Context, method string, req, resp any) error {
	err := s.Client.Call(ctx, method, req, resp)
	if errors.Is(err, ttrpc.ErrClosed) {
		return fmt.Errorf("%s: %w", method, errGone)
	}
	return errgrpc.ToNative(err)
}

// holdProcess keeps hold of the shim's process, so that it can be ended later and
// no other in its place.
func (s *shim) holdProcess(pid int) {
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		s.pidfd = os.NewFile(uintptr(fd), "shim")
	}
}

// end makes sure that the process is gone: it may live without its connection, and
// two must not hold one container.
func (s *shim) end() {
	if s.pidfd == nil {
		return
	}
	unix.PidfdSendSignal(int(s.pidfd.Fd()), unix.SIGKILL, nil, 0)
	unix.Poll([]unix.PollFd{{Fd: int32(s.pidfd.Fd()), Events: unix.POLLIN}}, int(loadWait.Milliseconds()))
	s.pidfd.Close()
}

// shutdown asks the shim to end, which it does if it is empty.
func (s *shim) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	err := s.call(ctx, "Shutdown", &wire.ShutdownRequest{}, &emptypb.Empty{})
	if err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Debug("shutdown of a shim")
	}
	s.Conn.Close()
}

// runtime says what a runtime's name means.
func (m *Manager) runtime(name string) (Runtime, error) {
	if filepath.IsAbs(name) {
		return Runtime{Shim: name}, nil
	}
	if r, ok := m.cfg.Runtimes[name]; ok {
		return r, nil
	}
	parts := strings.Split(name, ".")
	if len(parts) < 2 {
		return Runtime{}, fmt.Errorf("runtime %q: the name must be like io.containerd.runc.v2: %w", name, errdefs.ErrInvalidArgument)
	}
	return Runtime{Shim: "containerd-shim-" + strings.Join(parts[len(parts)-2:], "-")}, nil
}

// startSingle runs a shim program's start command in the bundle and connects to
// the server that it leaves behind.
func (m *Manager) startSingle(ctx context.Context, k key, program, bundle string) (*shim, error) {
	binary, err := findShim(program)
	if err != nil {
		return nil, err
	}
	out, err := m.run(ctx, k, bundle, binary, "start")
	if err != nil {
		return nil, err
	}
	b, err := parseBootstrap(out)
	if err != nil {
		return nil, err
	}
	s, err := dial(b, binary)
	if err != nil {
		return nil, err
	}
	s.count = 1
	if err := writeBootstrap(bundle, s); err != nil {
		s.shutdown(ctx)
		return nil, err
	}
	go m.attend(s)
	return s, nil
}

// run calls the shim program in the bundle and returns what it prints.
func (m *Manager) run(ctx context.Context, k key, bundle, binary string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := append([]string{"-namespace", k.namespace, "-address", m.address, "-publish-binary", self, "-id", k.id}, args...)
	cmd := exec.CommandContext(ctx, binary, all...)
	cmd.Dir = bundle
	cmd.Env = append(shimEnv(m.address), "NAMESPACE="+k.namespace)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(binary), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.Bytes(), nil
}

// parseBootstrap reads the three forms that shims answer in: protobuf, JSON, or a
// bare address.
func parseBootstrap(out []byte) (shims.Bootstrap, error) {
	var b shims.Bootstrap
	trimmed := bytes.TrimSpace(out)
	switch {
	case bytes.HasPrefix(trimmed, []byte("{")):
		if err := json.Unmarshal(trimmed, &b); err != nil {
			return b, fmt.Errorf("answer of the shim: %w", err)
		}
	case bytes.HasPrefix(trimmed, []byte("unix://")), bytes.HasPrefix(trimmed, []byte("vsock://")):
		b = shims.Bootstrap{Version: 2, Address: string(trimmed), Protocol: "ttrpc"}
	default:
		var r bootstrap.BootstrapResult
		if err := proto.Unmarshal(out, &r); err != nil || r.Address == "" {
			return b, fmt.Errorf("the shim answers %.80q, which is no address: %w", out, errdefs.ErrInvalidArgument)
		}
		b = shims.Bootstrap{Version: int(r.Version), Address: r.Address, Protocol: r.Protocol}
	}
	if b.Protocol != "ttrpc" {
		return b, fmt.Errorf("the shim speaks %q, only ttrpc is spoken here: %w", b.Protocol, errdefs.ErrNotImplemented)
	}
	return b, nil
}

func writeBootstrap(bundle string, s *shim) error {
	data, err := json.Marshal(s.at)
	if err != nil {
		return err
	}
	return errors.Join(
		safefile.Replace(filepath.Join(bundle, "shim-binary-path"), []byte(s.binary), 0o600),
		safefile.Replace(filepath.Join(bundle, "bootstrap.json"), data, 0o600))
}

func readBootstrap(bundle string) (b shims.Bootstrap, binary string, err error) {
	path, err := os.ReadFile(filepath.Join(bundle, "shim-binary-path"))
	if err != nil {
		return b, "", err
	}
	data, err := os.ReadFile(filepath.Join(bundle, "bootstrap.json"))
	if err != nil {
		return b, string(path), err
	}
	return b, string(path), json.Unmarshal(data, &b)
}

// deleteBinary calls the shim program's delete command, which kills and cleans up.
func (m *Manager) deleteBinary(ctx context.Context, k key, bundle, binary string) (exit uint32, err error) {
	if binary == "" {
		return 255, nil // it died before it was told: nothing ran
	}
	ctx = namespaces.With(context.WithoutCancel(ctx), k.namespace)
	out, err := m.run(ctx, k, bundle, binary, "-bundle", bundle, "delete")
	if err != nil {
		return 255, err
	}
	var resp wire.DeleteResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return 255, fmt.Errorf("answer of the shim: %w", err)
	}
	return resp.ExitStatus, nil
}
