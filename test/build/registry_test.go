package build

import (
	"fmt"
	"strings"
	"testing"
)

// TestRegistries wants builds to find registries as the daemon's pulls do: by hosts.toml.
func TestRegistries(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.stop(15)
	r.write("config.toml", fmt.Sprintf("version = 3\n[plugins.\"io.containerd.transfer.v1.local\"]\nconfig_path = [%q]\n", r.path("certs.d")))
	r.write("certs.d/far.example/hosts.toml", fmt.Sprintf("server = \"https://far.example\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", r.registry))
	r.start()
	r.write("mirrored/Dockerfile", "FROM far.example/box\nCOPY --from=far.example/box:latest /hello /again\n")
	r.docker("buildx", "build", "-t", "mirrored", r.path("mirrored"))
	if got := r.docker("run", "--rm", "--network", "none", "mirrored", "cat", "/again"); !strings.Contains(got, "hello from") {
		t.Errorf("%q", got)
	}
	if log := r.log(); strings.Contains(log, "no trace recorder") || strings.Contains(log, "healthcheck failed") {
		t.Errorf("the log has what is usual:\n%s", log)
	}
}
