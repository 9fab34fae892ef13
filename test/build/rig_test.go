package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/testimage"
)

// epoch is when everything was made, in seconds since 1970.
const epoch = "1700000000"

// clientLimit bounds a client: one that hangs is an error.
const clientLimit = 2 * time.Minute

// tool returns the path of a client of the module in tool, which it builds if need be.
func tool(name string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "tool", "-n", name)
	cmd.Dir, cmd.Stderr = "tool", &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// rig is a private daemon, a registry and a server of files.
type rig struct {
	t        *testing.T
	dir      string
	bin      string
	registry string
	daemon   *exec.Cmd
	env      []string
	buildctl string
	served   *served
}

// newRig starts everything. The config is the daemon's, empty for none.
func newRig(t *testing.T, config string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "orlop-build-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, bin: bin}
	t.Cleanup(r.close)
	r.clients()
	r.startRegistry()
	r.served = serveFiles(t)
	if config != "" {
		r.write("config.toml", config)
	}
	r.start()
	r.docker("pull", "-q", r.registry+"/box")
	r.docker("tag", r.registry+"/box", "box")
	return r
}

func (r *rig) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

func (r *rig) write(name, text string) {
	r.t.Helper()
	err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755)
	if err := errors.Join(err, os.WriteFile(r.path(name), []byte(text), 0o644)); err != nil {
		r.t.Fatal(err)
	}
}

// clients prepares docker with buildx as its plugin, and buildctl.
func (r *rig) clients() {
	r.t.Helper()
	buildx, err := tool("buildx")
	if err != nil {
		r.t.Fatal(err)
	}
	if r.buildctl, err = tool("buildctl"); err != nil {
		r.t.Fatal(err)
	}
	plugins := r.path("docker", "cli-plugins")
	if err := errors.Join(os.MkdirAll(plugins, 0o755), os.Symlink(buildx, filepath.Join(plugins, "docker-buildx"))); err != nil {
		r.t.Fatal(err)
	}
	r.env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"), "DOCKER_CONFIG="+r.path("docker"), "DOCKER_HOST=unix://"+r.path("state", "docker.sock"),
		"ORLOP_ADDRESS="+r.path("state", "orlopd.sock"), "BUILDKIT_HOST=unix://"+r.path("state", "buildkitd.sock"), "SOURCE_DATE_EPOCH="+epoch,
		"BUILDX_NO_DEFAULT_ATTESTATIONS=1", "BUILDX_METADATA_PROVENANCE=disabled", "DOCKER_CLI_HINTS=false", "BUILDX_GIT_INFO=0")
}

// start starts the daemon.
func (r *rig) start() {
	r.t.Helper()
	log, err := os.OpenFile(r.path("orlopd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	args := []string{"--root", r.path("root"), "--state", r.path("state")}
	if _, err := os.Stat(r.path("config.toml")); err == nil {
		args = append(args, "--config", r.path("config.toml"))
	}
	r.daemon = exec.Command(filepath.Join(r.bin, "orlopd"), args...)
	r.daemon.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"))
	r.daemon.Stdout, r.daemon.Stderr = log, log
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.wait("unix", r.path("state", "docker.sock"))
}

// stop ends the daemon by a signal.
func (r *rig) stop(sig syscall.Signal) {
	r.daemon.Process.Signal(sig)
	r.daemon.Wait()
}

func (r *rig) wait(network, address string) {
	r.t.Helper()
	if !e2e.Listens(network, address) {
		r.t.Fatalf("nothing listens on %s\n%s", address, r.log())
	}
}

func (r *rig) log() string {
	log, _ := os.ReadFile(r.path("orlopd.log"))
	return string(log[max(0, len(log)-8000):])
}

// startRegistry starts a registry with the image box in it.
func (r *rig) startRegistry() {
	r.t.Helper()
	r.registry = e2e.FreeAddress(r.t)
	e2e.Registry(r.t, r.registry, r.path("registry"))
	if err := testimage.Write(r.path("layout")); err != nil {
		r.t.Fatal(err)
	}
	r.run("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+r.path("layout")+":latest", "docker://"+r.registry+"/box:latest")
}

// try runs a client and returns all it printed.
func (r *rig) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = r.env
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs a client that must succeed.
func (r *rig) run(name string, args ...string) string {
	r.t.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (r *rig) docker(args ...string) string {
	r.t.Helper()
	return strings.TrimSpace(r.run("docker", args...))
}

// close ends the daemon, and wants nothing to be left.
func (r *rig) close() {
	if r.daemon != nil && r.daemon.ProcessState == nil {
		r.stop(syscall.SIGTERM)
	}
	for _, what := range r.left() {
		r.t.Errorf("left after the daemon's end: %s", what)
	}
	for _, m := range r.mounts() {
		syscall.Unmount(m, syscall.MNT_DETACH)
	}
	if r.t.Failed() {
		r.t.Logf("the daemon's log:\n%s", r.log())
	}
	os.RemoveAll(r.dir)
}
