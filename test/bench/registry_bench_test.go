package bench

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/orlop/orlop/test/e2e"
)

// registryServer is a registry's program under test.
type registryServer struct {
	b       *testing.B
	address string
	cmd     *exec.Cmd
}

// openRegistry starts Orlop's registry, Debian's docker-registry, or distribution 3.
func openRegistry(b *testing.B, name string) *registryServer {
	b.Helper()
	s := &registryServer{b: b, address: e2e.FreeAddress(b)}
	dir := b.TempDir()
	file, text := filepath.Join(dir, "config"), fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, s.address)
	switch name {
	case "docker-registry":
		s.cmd = exec.Command("docker-registry", "serve", file)
	case "distribution-3":
		s.cmd = exec.Command(e2e.Tool(b, "registry"), "serve", file)
		s.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	default:
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

// cpu is what the program has used of the processors, in seconds; a tick is 10 ms.
func (s *registryServer) cpu() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	sum := 0.0
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime: proc(5)
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			s.b.Fatal(err)
		}
		sum += n / 100
	}
	return sum
}

// anonymous is the memory that the program has for itself now, in MiB.
func (s *registryServer) anonymous() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	if err != nil {
		s.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "Pss_Anon:")
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		s.b.Fatal(err)
	}
	return n / 1024
}

// report tells what the program took for so many bytes since it had used so much of the
// processors.
func (s *registryServer) report(before float64, bytes int) {
	s.b.ReportMetric((s.cpu()-before)/(float64(bytes)/1e9), "cpu-s/GB")
	s.b.ReportMetric(s.peak(), "MiB-peak")
	s.b.ReportMetric(s.anonymous(), "MiB-own")
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
// new blob of 8 MiB at once, with the server's share of the processors, and its memory:
// the peak, and what is its own at the end. Wall clock is mostly the client's.
func BenchmarkRegistry(b *testing.B) {
	for _, name := range []string{"orlop", "docker-registry", "distribution-3"} {
		b.Run(name+"/push", func(b *testing.B) {
			s := openRegistry(b, name)
			used := s.cpu()
			b.SetBytes(256 << 20)
			for i := range b.N {
				b.StopTimer()
				blob, d := noise(256<<20, byte(i))
				b.StartTimer()
				s.push(blob, d)
			}
			s.report(used, b.N*256<<20)
		})
		b.Run(name+"/pull", func(b *testing.B) {
			s := openRegistry(b, name)
			blob, d := noise(256<<20, 1)
			s.push(blob, d)
			used := s.cpu()
			b.SetBytes(256 << 20)
			for b.Loop() {
				if err := s.pull(d, false); err != nil {
					b.Fatal(err)
				}
			}
			s.report(used, b.N*256<<20)
		})
		b.Run(name+"/clients", func(b *testing.B) {
			s := openRegistry(b, name)
			used := s.cpu()
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
			s.report(used, b.N*200*8<<20)
		})
	}
}
