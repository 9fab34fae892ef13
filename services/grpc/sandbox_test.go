package grpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	shim "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/core/container"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/sandbox"
	bus "github.com/orlop/orlop/services/events"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/proxy"
	"github.com/orlop/orlop/shims"
	"github.com/orlop/orlop/shims/manager"
)

// shimEnv makes this test's program a shim: "full" with the sandbox API, "bare"
// without; "serve-…" is the server that its start leaves behind.
const shimEnv = "ORLOP_TEST_SHIM"

func TestMain(m *testing.M) {
	kind := os.Getenv(shimEnv)
	if kind == "" {
		os.Exit(m.Run())
	}
	if err := beShim(kind, os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func beShim(kind, verb string) error {
	switch {
	case kind == "serve-full" || kind == "serve-bare":
		return serveShim(kind == "serve-full")
	case verb == "delete":
		return killShim()
	}
	const socket = "s" // in the bundle
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), shimEnv+"=serve-"+kind)
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := os.WriteFile("pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(shims.Bootstrap{Version: 3, Address: "unix://" + filepath.Join(wd, socket), Protocol: "ttrpc"})
}

// killShim ends the server whose bundle this is.
func killShim() error {
	data, err := os.ReadFile("pid")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// box is a sandbox that is nothing but its shim.
type box struct {
	shim.TTRPCSandboxService
	stop    chan struct{}
	created *shim.CreateSandboxRequest
	updated *shim.UpdateSandboxRequest
}

func serveShim(full bool) error {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	s, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	b := &box{stop: make(chan struct{})}
	if full {
		shim.RegisterTTRPCSandboxService(s, b)
	}
	go func() {
		<-b.stop
		s.Shutdown(context.Background())
	}()
	return s.Serve(context.Background(), l)
}

func (b *box) CreateSandbox(_ context.Context, r *shim.CreateSandboxRequest) (*shim.CreateSandboxResponse, error) {
	b.created = r
	return &shim.CreateSandboxResponse{}, nil
}

func (b *box) StartSandbox(context.Context, *shim.StartSandboxRequest) (*shim.StartSandboxResponse, error) {
	return &shim.StartSandboxResponse{Pid: uint32(os.Getpid()), CreatedAt: timestamppb.Now()}, nil
}

func (b *box) Platform(context.Context, *shim.PlatformRequest) (*shim.PlatformResponse, error) {
	return &shim.PlatformResponse{Platform: &types.Platform{OS: "linux", Architecture: "riscv64"}}, nil
}

func (b *box) PingSandbox(context.Context, *shim.PingRequest) (*shim.PingResponse, error) {
	return &shim.PingResponse{}, nil
}

func (b *box) StopSandbox(context.Context, *shim.StopSandboxRequest) (*shim.StopSandboxResponse, error) {
	return &shim.StopSandboxResponse{}, nil
}

func (b *box) WaitSandbox(context.Context, *shim.WaitSandboxRequest) (*shim.WaitSandboxResponse, error) {
	return &shim.WaitSandboxResponse{ExitStatus: 7, ExitedAt: timestamppb.Now()}, nil
}

func (b *box) UpdateSandbox(_ context.Context, r *shim.UpdateSandboxRequest) (*shim.UpdateSandboxResponse, error) {
	b.updated = r
	return &shim.UpdateSandboxResponse{}, nil
}

// SandboxStatus tells what has come through.
func (b *box) SandboxStatus(_ context.Context, r *shim.SandboxStatusRequest) (*shim.SandboxStatusResponse, error) {
	info := map[string]string{"netns": b.created.GetNetnsPath(), "options": b.created.GetOptions().GetTypeUrl(),
		"mount": b.created.GetRootfs()[0].GetSource(), "label": b.updated.GetSandbox().GetLabels()["a"], "fields": fmt.Sprint(b.updated.GetFields())}
	return &shim.SandboxStatusResponse{SandboxID: r.SandboxID, State: "SANDBOX_READY", Info: info, CreatedAt: timestamppb.Now()}, nil
}

func (b *box) SandboxMetrics(_ context.Context, r *shim.SandboxMetricsRequest) (*shim.SandboxMetricsResponse, error) {
	return &shim.SandboxMetricsResponse{Metrics: &types.Metric{ID: r.SandboxID, Data: &anypb.Any{TypeUrl: "x"}}}, nil
}

func (b *box) ShutdownSandbox(context.Context, *shim.ShutdownSandboxRequest) (*shim.ShutdownSandboxResponse, error) {
	close(b.stop)
	return &shim.ShutdownSandboxResponse{}, nil
}

// controller is a daemon's controller over shims, reached as another daemon's
// proxy plugin does: through the service.
func controller(t *testing.T, dir string, events *bus.Exchange) (sandbox.Controller, *manager.Sandboxes) {
	t.Helper()
	m, err := manager.Open(t.Context(), manager.DefaultConfig(), manager.Where{
		State: filepath.Join(dir, "task"), Sockets: filepath.Join(dir, "sockets"), Address: "/nonexistent"}, events)
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := manager.OpenSandboxes(t.Context(), m, filepath.Join(dir, "box"))
	if err != nil {
		t.Fatal(err)
	}
	address := filepath.Join(dir, "d.sock")
	door, err := grpc.Listen(grpc.Socket{Path: address}, []grpc.Service{&grpc.Sandboxes{Controllers: map[string]sandbox.Controller{"shim": boxes}, Default: "shim"}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := ggrpc.NewClient("unix://"+address, ggrpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		door.Close()
		boxes.Close()
		m.Close()
	})
	return proxy.NewController(conn, "shim"), boxes
}

func TestSandboxController(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(shimEnv, "full")
	dir, err := os.MkdirTemp("", "orlop-sb-") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, boxes := controller(t, dir, &bus.Exchange{})
	ctx := namespaces.With(t.Context(), "demo")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	opts := sandbox.CreateOptions{
		Sandbox: sandbox.Sandbox{ID: "box", Runtime: container.Runtime{Name: self}}, NetNS: "/run/netns/x",
		Rootfs: []mount.Mount{{Type: "bind", Source: "/src"}}, Options: &anypb.Any{TypeUrl: "opts"},
	}
	must(c.Create(ctx, "box", opts))
	if err := c.Create(ctx, "box", opts); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second one: %v", err)
	}
	i, err := c.Start(ctx, "box")
	must(err)
	if i.Pid == 0 || i.Version != 3 || i.Address != "ttrpc+unix://"+dir+"/box/demo/box/s" {
		t.Errorf("instance %+v", i)
	}
	p, err := c.Platform(ctx, "box")
	must(err)
	if p.Architecture != "riscv64" {
		t.Errorf("platform %+v", p)
	}
	must(c.Update(ctx, "box", sandbox.Sandbox{ID: "box", Labels: map[string]string{"a": "b"}}, "labels"))

	// The sandbox outlives the daemon.
	must(boxes.Close())
	dir2 := filepath.Join(dir, "again")
	must(os.Mkdir(dir2, 0o700))
	must(os.Rename(filepath.Join(dir, "box"), filepath.Join(dir2, "box")))
	must(os.Symlink(filepath.Join(dir2, "box"), filepath.Join(dir, "box")))
	c, _ = controller(t, dir2, &bus.Exchange{})
	st, err := c.Status(ctx, "box", true)
	must(err)
	want := map[string]string{"netns": "/run/netns/x", "options": "opts", "mount": "/src", "label": "b", "fields": "[labels]"}
	if st.State != "SANDBOX_READY" || fmt.Sprint(st.Info) != fmt.Sprint(want) {
		t.Errorf("status %+v, want %v", st, want)
	}
	m, err := c.Metrics(ctx, "box")
	must(err)
	if m.ID != "box" || m.Data.GetTypeUrl() != "x" {
		t.Errorf("metrics %+v", m)
	}
	must(c.Stop(ctx, "box", 0))
	x, err := c.Wait(ctx, "box")
	must(err)
	if x.Status != 7 {
		t.Errorf("exit %+v", x)
	}
	must(c.Shutdown(ctx, "box"))
	must(c.Shutdown(ctx, "box"))
	if _, err := c.Status(ctx, "box", false); !errdefs.IsNotFound(err) {
		t.Errorf("after the end: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir2, "box", "*", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A shim without the sandbox API: the error says so, and nothing is left.
func TestSandboxShimLacksAPI(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(shimEnv, "bare")
	dir, err := os.MkdirTemp("", "orlop-sb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, _ := controller(t, dir, &bus.Exchange{})
	ctx := namespaces.With(t.Context(), "demo")
	err = c.Create(ctx, "box", sandbox.CreateOptions{Sandbox: sandbox.Sandbox{ID: "box", Runtime: container.Runtime{Name: self}}})
	if !errdefs.IsNotImplemented(err) {
		t.Errorf("%v, want NotImplemented", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "box", "*", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"", "a b"} {
		if err := c.Create(ctx, name, sandbox.CreateOptions{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("sandbox %q: %v", name, err)
		}
	}
}
