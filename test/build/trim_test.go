package build

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// cacheBound and layer are in bytes.
const (
	cacheBound = 20 << 20
	layerSize  = 6 << 20
)

// TestCacheBound makes twice what may be kept, and wants the cache within its
// bound soon after the last build.
func TestCacheBound(t *testing.T) {
	r := newRig(t, fmt.Sprintf("version = 3\n[plugins.\"io.orlop.builder.v1.buildkit\"]\ncache = %d\n", cacheBound))
	for i := range 2 * cacheBound / layerSize {
		r.write(fmt.Sprintf("big%d/Dockerfile", i), fmt.Sprintf("FROM box\nRUN dd if=/dev/urandom of=/big bs=1024 count=%d && echo %d\nRUN echo %d >/small\n", layerSize>>10, i, i))
		r.buildx("--output", "type=cacheonly", r.path(fmt.Sprintf("big%d", i)))
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Second) {
		kept := r.kept()
		if kept <= cacheBound {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d bytes are kept, %d may be:\n%s", kept, cacheBound, r.docker("buildx", "du", "--verbose"))
		}
	}
}

// kept is the size of the cache as the Engine API tells.
func (r *rig) kept() int64 {
	r.t.Helper()
	var df struct {
		BuildCache []struct {
			Size   int64
			Shared bool
		}
	}
	out := r.run("curl", "-s", "--unix-socket", filepath.Join(r.dir, "state", "docker.sock"), "http://d/v1.43/system/df?type=build-cache")
	if err := json.Unmarshal([]byte(out), &df); err != nil {
		r.t.Fatal(err)
	}
	var sum int64
	for _, c := range df.BuildCache {
		if !c.Shared {
			sum += c.Size
		}
	}
	return sum
}
