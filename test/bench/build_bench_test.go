package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/testimage"
)

// builder is a client with an image "localhost/box" behind it.
type builder struct {
	name string
	env  []string
	line []string
}

// BenchmarkBuild measures builds of one COPY and one RUN by whole clients: with all in
// the cache, and anew. Podman is measured beside, if it is there.
func BenchmarkBuild(b *testing.B) {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o755); err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{"Dockerfile": "FROM localhost/box\nCOPY f /f\nRUN true\n", "f": "f"} {
		if err := os.WriteFile(filepath.Join(dir, "app", name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, p := range append(startBuilder(b, dir), podman(b, dir)...) {
		for kind, flags := range map[string][]string{"cached": nil, "cold": {"--no-cache"}} {
			b.Run(p.name+"/"+kind, func(b *testing.B) {
				run := func() {
					args := append(append(p.line[1:], flags...), "--network", "none", "-t", "bench", filepath.Join(dir, "app"))
					cmd := exec.Command(p.line[0], args...)
					cmd.Env = append(os.Environ(), p.env...)
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v: %s", err, out)
					}
				}
				run() // fills the cache
				for b.Loop() {
					run()
				}
			})
		}
	}
}

// startBuilder starts a private daemon, and returns its clients.
func startBuilder(b *testing.B, dir string) []builder {
	b.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(bin, "orlopd")); err != nil {
		b.Skip("make build first")
	}
	if err := testimage.Write(filepath.Join(dir, "layout")); err != nil {
		b.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	cmd := exec.Command(filepath.Join(bin, "orlopd"), "--root", filepath.Join(dir, "root"), "--state", state)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	if !e2e.Listens("unix", filepath.Join(state, "docker.sock")) {
		b.Fatal("the daemon does not come up")
	}
	env := []string{"DOCKER_HOST=unix://" + filepath.Join(state, "docker.sock"), "ORLOP_ADDRESS=" + filepath.Join(state, "orlopd.sock"), "DOCKER_BUILDKIT=0", "DOCKER_CONFIG=" + dir}
	load := exec.Command("sh", "-c", `tar cf image.tar -C layout . && ctr -a state/orlopd.sock images import --base-name localhost/box image.tar`)
	load.Dir = dir
	if out, err := load.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	found := []builder{{"orlop", env, []string{filepath.Join(bin, "orlop"), "build"}}}
	if _, err := exec.LookPath("docker"); err == nil {
		found = append(found, builder{"docker", env, []string{"docker", "build"}})
	}
	return found
}

// podman is a peer with a store of its own.
func podman(b *testing.B, dir string) []builder {
	b.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		return nil
	}
	flags := []string{"podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--root", filepath.Join(dir, "podman"), "--runroot", filepath.Join(dir, "podman-run")}
	const script = `mkdir -p box/bin && cp /bin/busybox box/bin/ && for a in sh true; do ln -s busybox box/bin/$a; done && tar c -C box . | "$@" import -q - localhost/box`
	load := exec.Command("sh", append([]string{"-c", script, "sh"}, flags...)...)
	load.Dir = dir
	if out, err := load.CombinedOutput(); err != nil {
		b.Logf("podman isn't measured: %v: %s", err, out)
		return nil
	}
	b.Cleanup(func() { exec.Command("umount", filepath.Join(dir, "podman", "overlay")).Run() })
	return []builder{{"podman", nil, append(flags, "build", "--layers")}}
}
