package build

import (
	"strings"
	"testing"
)

// TestNetworks builds on a network of one's own, where steps find others by name.
func TestNetworks(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	r.docker("network", "create", "own")
	r.docker("run", "-d", "--name", "server", "--network", "own", "box", "/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/")
	r.write("net/Dockerfile", "FROM box\nRUN /bin/busybox wget -q -O /got http://server:8000/hello\nRUN --network=none /bin/busybox ip -o link | /bin/busybox wc -l > /links\n")
	dir := r.path("net")
	for name, args := range map[string][]string{
		"classic":  {"env", "DOCKER_BUILDKIT=0", "docker", "build", "--no-cache", "--network", "own", "-t", "net:classic", dir},
		"orlop":    {r.bin + "/orlop", "build", "--no-cache", "--network", "own", "-t", "net:orlop", dir},
		"buildctl": {r.buildctl, "build", "--no-cache", "--frontend", "dockerfile.v0", "--local", "context=" + dir, "--local", "dockerfile=" + dir, "--opt", "force-network-mode=own", "--output", "type=image,name=docker.io/library/net:buildctl,unpack=true"},
	} {
		r.run(args[0], args[1:]...)
		if got := r.docker("run", "--rm", "--network", "none", "net:"+name, "cat", "/got", "/links"); got != "hello from the second layer\n1" {
			t.Errorf("%s: %q", name, got)
		}
	}
	for network, words := range map[string]string{"nosuch": "network nosuch not found", "container:server": "not supported by builds", "bridge": "bad address"} {
		out, err := r.try("env", "DOCKER_BUILDKIT=0", "docker", "build", "--no-cache", "--network", network, dir)
		if err == nil || !strings.Contains(out, words) {
			t.Errorf("--network %s: %v, want an error with %q\n%s", network, err, words, out)
		}
	}
	r.docker("rm", "-f", "server")
	if left := r.left(); len(left) > 0 {
		t.Errorf("builds have left:\n%s", strings.Join(left, "\n"))
	}
	if log := r.log(); strings.Contains(log, "panic") {
		t.Error("the daemon panicked")
	}
}
