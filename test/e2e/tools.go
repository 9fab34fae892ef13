package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// tools are clients and peers that Debian has too old or not at all, pinned. They are built
// from their modules once, into the user's cache.
var tools = map[string]struct{ pkg, version string }{
	"ctr":   {"github.com/containerd/containerd/v2/cmd/ctr", "v2.4.2"},
	"crane": {"github.com/google/go-containerregistry/cmd/crane", "v0.22.1"},
	"oras":  {"oras.land/oras/cmd/oras", "v1.3.6"},
	// The registry of the CNCF, version 3, for benchmarks; 130 seconds of CPU to build.
	"registry": {"github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"},
	// A server of S3's API over a folder; 90 seconds of CPU to build.
	"versitygw": {"github.com/versity/versitygw/cmd/versitygw", "v1.8.0"},
}

// building lets one test build at a time.
var building sync.Mutex

// Tool returns the path of a client, which is built if need be.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := Fetch(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Fetch is Tool for those who have no test yet: tests that go where there is no network
// need their tools before.
func Fetch(name string) (string, error) {
	tool, ok := tools[name]
	if !ok {
		return "", fmt.Errorf("no tool is called %s", name)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "orlop-test", "bin", name+"@"+tool.version)
	path := filepath.Join(dir, name)
	building.Lock()
	defer building.Unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	cmd := exec.Command("go", "install", tool.pkg+"@"+tool.version)
	cmd.Dir = os.TempDir() // outside of this module
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s@%s: %w: %s", tool.pkg, tool.version, err, out)
	}
	return path, nil
}
