package build

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestBudget wants the cache to stay below the bound of the config.
func TestBudget(t *testing.T) {
	t.Parallel()
	const most = 20 << 20 // bytes
	r := newRig(t, fmt.Sprintf("version = 3\n[plugins.\"io.orlop.builder.v1.buildkit\"]\ncache = %d\n", most))
	for n := range 6 {
		r.write("budget/Dockerfile", fmt.Sprintf("FROM box\nRUN /bin/busybox dd if=/dev/urandom of=/big bs=1M count=8 && echo %d\n", n))
		r.buildx("-t", fmt.Sprintf("budget:%d", n), r.path("budget"))
		r.docker("rmi", "-f", fmt.Sprintf("budget:%d", n))
	}
	var size int64
	for range 180 { // BuildKit looks once a minute
		if size = r.cacheSize(t); size <= most {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Errorf("the cache has %d bytes, it may have %d\n%s", size, most, r.docker("buildx", "du"))
}

// cacheSize is what "docker system df" counts, in bytes.
func (r *rig) cacheSize(t *testing.T) int64 {
	t.Helper()
	resp, err := r.api().Get("http://docker/v1.50/system/df?type=build-cache")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var usage struct{ BuildCache []struct{ Size int64 } }
	if err := json.NewDecoder(resp.Body).Decode(&usage); err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, c := range usage.BuildCache {
		sum += c.Size
	}
	return sum
}
