package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// FreeAddress returns an address of loopback, host:port, at which nobody listens now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Listens waits for at most ten seconds until somebody listens at an address, and
// reports whether that is so.
func Listens(network, address string) bool {
	for range 400 {
		if c, err := net.Dial(network, address); err == nil {
			c.Close()
			return true
		}
		time.Sleep(25 * time.Millisecond)
	}
	return false
}

// Registry starts Debian's docker-registry at an address, with its files in dir and its
// config beside it. It ends with the test.
func Registry(t testing.TB, address, dir string) {
	t.Helper()
	file := dir + ".yml"
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, address)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if !Listens("tcp", address) {
		t.Fatalf("docker-registry does not listen on %s", address)
	}
}
