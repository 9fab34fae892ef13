// Containerd-shim-orlop-v1 holds containers so that they outlive the daemon. It
// speaks the runtime v2 protocol: "start" leaves a server behind and says where
// it listens, "delete" cleans up after a server that died. Orlop's daemon starts
// the server itself (-socket), ahead of need and for many containers.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/orlop/orlop/shims"
	"github.com/orlop/orlop/shims/server"
)

type flags struct {
	namespace, id, address, bundle, socket string
	version, info                          bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "containerd-shim-orlop-v1: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var f flags
	flag.StringVar(&f.namespace, "namespace", "", "namespace of the container")
	flag.StringVar(&f.id, "id", "", "ID of the container")
	flag.StringVar(&f.address, "address", "", "the daemon's socket")
	flag.StringVar(&f.bundle, "bundle", "", "the container's folder")
	flag.StringVar(&f.socket, "socket", "", "serve at this socket, which is descriptor 3")
	flag.BoolVar(&f.version, "v", false, "print the protocol version")
	flag.BoolVar(&f.info, "info", false, "write what this shim is, as protobuf")
	flag.String("publish-binary", "", "unused: events go over ttrpc")
	flag.Bool("debug", false, "log more")
	flag.Parse()
	switch {
	case f.version:
		fmt.Println("containerd-shim-orlop-v1: runtime v2, task API 3")
		return nil
	case f.info:
		return info()
	case flag.Arg(0) == "start":
		return start(f)
	case flag.Arg(0) == "delete":
		return remove(f)
	case f.socket != "":
		return serve(f)
	}
	return errors.New("call it with start, delete or -socket; the daemon does")
}

// defaultAddress is the daemon's socket where none is named.
const defaultAddress = "/run/orlop/orlopd.sock"

// socketPath is where a single shim listens: in a folder beside the daemon's socket, which
// only the daemon's user may look into. The name is short, for a path has 107 bytes.
func socketPath(f flags) string {
	sum := sha256.Sum256([]byte(f.namespace + "/" + f.id))
	dir := filepath.Dir(cmp.Or(f.address, defaultAddress))
	return filepath.Join(dir, "s", fmt.Sprintf("%x", sum[:16]))
}

// start makes the socket, leaves a server behind that has it as descriptor 3, and
// prints where it is.
func start(f flags) error {
	path := socketPath(f)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	logFile, err := os.OpenFile("log.txt", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-namespace", f.namespace, "-id", f.id, "-address", f.address, "-socket", path)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = logFile
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(shims.Bootstrap{Version: 3, Address: "unix://" + path, Protocol: "ttrpc"})
}

// gcPercent trades a little memory for time: what a burst of creations leaves is given
// back when it is over ([giveBack]).
const gcPercent = 200

// serve answers until it is told to stop, or until it holds nothing and nobody
// has been connected for a while.
func serve(f flags) error {
	boundLog()
	debug.SetGCPercent(gcPercent)
	listener, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	address := os.Getenv("TTRPC_ADDRESS")
	if address == "" {
		address = f.address + ".ttrpc"
	}
	stop := make(chan struct{}, 1)
	halt := func() {
		select {
		case stop <- struct{}{}:
		default:
		}
	}
	svc := server.New(f.namespace, address, halt)
	s, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(intercept))
	if err != nil {
		return err
	}
	shims.Serve(s, svc)
	go func() {
		<-stop
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}()
	err = s.Serve(context.Background(), watchIdle(listener, svc, halt))
	svc.Close()
	os.Remove(f.socket)
	if errors.Is(err, ttrpc.ErrServerClosed) {
		return nil
	}
	return err
}

func intercept(ctx context.Context, unmarshal ttrpc.Unmarshaler, _ *ttrpc.UnaryServerInfo, method ttrpc.Method) (any, error) {
	resp, err := method(ctx, unmarshal)
	return resp, errgrpc.ToGRPC(err)
}

// deleteWait bounds the clean-up of one container.
const deleteWait = 10 * time.Second

// remove cleans up after a dead server.
func remove(f flags) error {
	ctx, cancel := context.WithTimeout(context.Background(), deleteWait)
	defer cancel()
	bundle := f.bundle
	if bundle == "" {
		var err error
		if bundle, err = os.Getwd(); err != nil {
			return err
		}
	}
	code, err := server.Remove(ctx, f.namespace, f.id, bundle)
	if err != nil {
		return err
	}
	os.Remove(socketPath(f))
	data, err := proto.Marshal(&task.DeleteResponse{ExitStatus: code, ExitedAt: timestamppb.Now()})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(data)
	return err
}
