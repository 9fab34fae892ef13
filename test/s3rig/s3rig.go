// Package s3rig runs a real S3-compatible server for tests, behind a door that can
// misbehave.
package s3rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/test/e2e"
)

// What the server knows.
const (
	Access = "orlop"
	Secret = "not-a-secret"
	Bucket = "blobs"
)

// Server is a server with an empty bucket, and the door before it.
type Server struct {
	*Door
	t       testing.TB
	dir     string
	address string
	cmd     *exec.Cmd
}

// Start starts both, until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), address: e2e.FreeAddress(t)}
	for _, dir := range []string{s.Path(""), filepath.Join(s.dir, "about")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Up()
	t.Cleanup(s.Down)
	s.Door = open(t, s.address)
	return s
}

// Path is where the server has an object.
func (s *Server) Path(key string) string {
	return filepath.Join(s.dir, "files", Bucket, filepath.FromSlash(key))
}

// Up starts the server, and waits until it listens.
func (s *Server) Up() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	// Facts about objects lie beside them: not every temporary folder has extended attributes.
	s.cmd = exec.Command(e2e.Tool(s.t, "versitygw"), "--port", s.address, "--access", Access, "--secret", Secret, "--keep-alive",
		"posix", "--sidecar", filepath.Join(s.dir, "about"), filepath.Join(s.dir, "files"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if !e2e.Listens("tcp", s.address) {
		text, _ := os.ReadFile(log.Name())
		s.t.Fatalf("no S3 server comes up: %s", text)
	}
}

// Down kills the server.
func (s *Server) Down() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

// Endpoint is the address of the door.
func (s *Server) Endpoint() string { return fmt.Sprintf("http://%s", s.Door.Address()) }

// TOML is the config of a daemon that keeps its blobs under a prefix.
func (s *Server) TOML(prefix string) string {
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte(Secret+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`
[defaults]
"io.containerd.content.v1" = "s3"
[plugins."io.containerd.content.v1.s3"]
endpoint = %q
bucket = %q
prefix = %q
access_key = %q
secret_key_file = %q
part_size = 5_242_880
stall = "5s"
`, s.Endpoint(), Bucket, prefix, Access, secret)
}
