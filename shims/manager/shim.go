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
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/api/runtime/bootstrap/v1"
	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	"github.com/orlop/orlop/internal/safefile"
	"github.com/orlop/orlop/shims"
)

// Shim is a connection to a shim that holds one container.
type Shim struct {
	*shims.Client
	Bundle string
	key    key
	closed chan struct{}
	pid    atomic.Uint32
}

// ID is the container's.
func (s *Shim) ID() string { return s.key.id }

func (s *Shim) setPid(pid uint32) { s.pid.Store(pid) }
func (s *Shim) initPid() uint32   { return s.pid.Load() }

// binary finds the shim program of a runtime: beside the daemon, then on PATH.
func (m *Manager) binary(runtime string) (string, error) {
	if filepath.IsAbs(runtime) {
		return runtime, nil
	}
	name, ok := m.cfg.Runtimes[runtime]
	if !ok {
		parts := strings.Split(runtime, ".")
		if len(parts) < 2 {
			return "", fmt.Errorf("runtime %q: the name must be like io.containerd.runc.v2: %w", runtime, errdefs.ErrInvalidArgument)
		}
		name = "containerd-shim-" + strings.Join(parts[len(parts)-2:], "-")
	}
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
		return "", fmt.Errorf("runtime %q: no program %s on PATH: %w", runtime, name, errdefs.ErrNotFound)
	}
	return path, nil
}

// start runs the shim program and connects to the server that it leaves behind.
func (m *Manager) start(ctx context.Context, k key, runtime, bundle string) (*Shim, error) {
	binary, err := m.binary(runtime)
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
	if err := writeBootstrap(bundle, binary, b); err != nil {
		return nil, err
	}
	return dial(k, bundle, binary, b)
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
	cmd.Env = append(os.Environ(),
		"TTRPC_ADDRESS="+m.address+".ttrpc", "GRPC_ADDRESS="+m.address, "NAMESPACE="+k.namespace, "MAX_SHIM_VERSION=3", "GOMAXPROCS=2")
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

func writeBootstrap(bundle, binary string, b shims.Bootstrap) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	// The folder is on tmpfs: what matters is that a killed daemon leaves no half file.
	return errors.Join(
		safefile.Write(filepath.Join(bundle, "shim-binary-path"), []byte(binary), 0o600),
		safefile.Write(filepath.Join(bundle, "bootstrap.json"), data, 0o600))
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

func dial(k key, bundle, _ string, b shims.Bootstrap) (*Shim, error) {
	path := strings.TrimPrefix(b.Address, "unix://")
	conn, err := net.DialTimeout("unix", path, loadWait)
	if err != nil {
		return nil, err
	}
	s := &Shim{Bundle: bundle, key: k, closed: make(chan struct{})}
	client := ttrpc.NewClient(conn, ttrpc.WithOnClose(func() { close(s.closed) }))
	s.Client = &shims.Client{Conn: client, Version: b.Version}
	return s, nil
}

// deleteBinary calls the shim program's delete command, which kills and cleans up.
func (m *Manager) deleteBinary(ctx context.Context, k key, bundle, binary string) (exit uint32, err error) {
	if binary == "" {
		return 255, nil // it died before it was told: nothing ran
	}
	out, err := m.run(ctx, k, bundle, binary, "-bundle", bundle, "delete")
	if err != nil {
		return 255, err
	}
	var resp task.DeleteResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return 255, fmt.Errorf("answer of the shim: %w", err)
	}
	return resp.ExitStatus, nil
}
