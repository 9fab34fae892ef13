package bench

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// registryServer is a registry's program under test.
type registryServer struct {
	b       *testing.B
	address string
	cmd     *exec.Cmd
}

// openRegistry starts Orlop's registry, or Debian's docker-registry.
func openRegistry(b *testing.B, name string) *registryServer {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &registryServer{b: b, address: l.Addr().String()}
	l.Close()
	dir := b.TempDir()
	file, text := filepath.Join(dir, "config"), fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, s.address)
	s.cmd = exec.Command("docker-registry", "serve", file)
	if name == "orlop" {
		text = fmt.Sprintf("version = 4\nonly_plugins = [\"io.containerd.server.v1.registry\"]\n[plugins.\"io.containerd.server.v1.registry\"]\nlisten = %q\n", s.address)
		s.cmd = exec.Command("../../bin/orlopd", "--config", file, "--root", filepath.Join(dir, "root"), "--state", filepath.Join(dir, "state"))
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	for range 400 {
		if resp, err := http.Get("http://" + s.address + "/v2/"); err == nil {
			resp.Body.Close()
			return s
		}
		time.Sleep(25 * time.Millisecond)
	}
	b.Fatalf("%s doesn't come up", name)
	return nil
}

// peak is the most memory that the program had, in MiB.
func (s *registryServer) peak() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		s.b.Fatal(err)
	}
	return n / 1024
}

// push sends a blob as docker does: POST, PATCH, PUT.
func (s *registryServer) push(blob []byte, d digest.Digest) {
	at := s.call("POST", "/v2/bench/blobs/uploads/", nil, 202)
	at = s.call("PATCH", at, blob, 202)
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	s.call("PUT", at+sep+"digest="+d.String(), nil, 201)
}

func (s *registryServer) call(method, at string, body []byte, want int) string {
	if !strings.HasPrefix(at, "http") {
		at = "http://" + s.address + at
	}
	req, err := http.NewRequest(method, at, bytes.NewReader(body))
	if err != nil {
		s.b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.b.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		text, _ := io.ReadAll(resp.Body)
		s.b.Fatalf("%s %s: %d %s", method, at, resp.StatusCode, text)
	}
	return resp.Header.Get("Location")
}

// pull reads a blob and, if asked, compares it.
func (s *registryServer) pull(d digest.Digest, verify bool) error {
	resp, err := http.Get("http://" + s.address + "/v2/bench/blobs/" + d.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	var out io.Writer = io.Discard
	if verify {
		out = sum
	}
	if _, err := io.Copy(out, resp.Body); err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	if verify && digest.NewDigest(digest.SHA256, sum) != d {
		return fmt.Errorf("the bytes of %s differ", d)
	}
	return nil
}

func noise(n int, seed byte) ([]byte, digest.Digest) {
	blob := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(blob)
	return blob, digest.FromBytes(blob)
}

// BenchmarkRegistry compares pushes and pulls of 256 MiB, and 200 clients that pull a
// new blob of 8 MiB at once, with the peak of memory.
func BenchmarkRegistry(b *testing.B) {
	for _, name := range []string{"orlop", "docker-registry"} {
		b.Run(name+"/push", func(b *testing.B) {
			s := openRegistry(b, name)
			b.SetBytes(256 << 20)
			for i := range b.N {
				b.StopTimer()
				blob, d := noise(256<<20, byte(i))
				b.StartTimer()
				s.push(blob, d)
			}
			b.ReportMetric(s.peak(), "MiB-peak")
		})
		b.Run(name+"/pull", func(b *testing.B) {
			s := openRegistry(b, name)
			blob, d := noise(256<<20, 1)
			s.push(blob, d)
			b.SetBytes(256 << 20)
			for b.Loop() {
				if err := s.pull(d, false); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(s.peak(), "MiB-peak")
		})
		b.Run(name+"/clients", func(b *testing.B) {
			s := openRegistry(b, name)
			b.SetBytes(200 * 8 << 20)
			for i := range b.N {
				blob, d := noise(8<<20, byte(i))
				s.push(blob, d)
				var work sync.WaitGroup
				for range 200 {
					work.Go(func() {
						if err := s.pull(d, true); err != nil {
							b.Error(err)
						}
					})
				}
				work.Wait()
			}
			b.ReportMetric(s.peak(), "MiB-peak")
		})
	}
}
