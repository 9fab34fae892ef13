package network_test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestResolver: questions go to the server that was named, by the container's own
// way; one that has internal networks alone asks nobody (CVE-2024-29018).
func TestResolver(t *testing.T) {
	h := newHost(t)
	before := h.place.Snapshot()
	asked := nobody(t, h.out.NS, outIPv4)
	h.start()
	h.image()
	h.docker("network", "create", "open")
	h.docker("network", "create", "--internal", "closed")
	h.docker("run", "-d", "--name", "free", "--network", "open", "--dns", outIPv4, "box", "sleep", "1000")
	h.docker("run", "-d", "--name", "shut", "--network", "closed", "--dns", outIPv4, "box", "sleep", "1000")
	ask := func(name string) {
		t.Helper()
		out, err := h.try("docker", "exec", name, "busybox", "timeout", "3", "busybox", "nslookup", "leak.example")
		if err == nil && !strings.Contains(out, "NXDOMAIN") && !strings.Contains(out, "SERVFAIL") {
			t.Errorf("%s: %s", name, out)
		}
	}
	for _, when := range []string{"at first", "after the daemon was killed"} {
		asked.Store(0)
		if ask("free"); asked.Load() == 0 {
			t.Errorf("%s: the server was not asked", when)
		}
		asked.Store(0)
		ask("shut")
		time.Sleep(100 * time.Millisecond)
		if n := asked.Load(); n > 0 {
			t.Errorf("%s: an internal network's container asked outside %d times", when, n)
		}
		h.stop(syscall.SIGKILL)
		h.start()
	}
	h.clean(before)
}
