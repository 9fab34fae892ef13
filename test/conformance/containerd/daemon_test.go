package containerd

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// build compiles orlopd once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "orlop-conf-bin-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/orlopd", "./cmd/containerd-shim-orlop-v1")
	cmd.Dir, cmd.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// daemon starts an orlopd with its root in dir and returns a connection to it.
func daemon(t *testing.T, dir, config string) *grpc.ClientConn {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems")
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.MkdirTemp("", "orlop-conf-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(state, "d.sock")
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "orlopd"), "-c", file, "--root", filepath.Join(dir, "root"), "--state", filepath.Join(state, "state"), "-a", socket)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		os.RemoveAll(state)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", &log)
		}
	})
	for range 400 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			break
		}
		time.Sleep(25 * time.Millisecond)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20), grpc.MaxCallSendMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
