// Package e2e drives the daemon with clients that others wrote: real registries,
// real images, real containers. Its tests need root and what test/deps.sh
// installs.
package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/test/testimage"
)

// Rig is a private daemon and a registry on loopback with an image of three layers.
type Rig struct {
	t      *testing.T
	bin    string
	dir    string
	daemon *exec.Cmd
	Image  string // its name in the registry
}

// New starts a rig and ends it with the test, checking that nothing is left.
func New(t *testing.T) *Rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "orlop-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{t: t, bin: bin, dir: dir}
	t.Cleanup(r.close)
	r.Start()
	r.startRegistry()
	return r
}

func (r *Rig) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

// Socket is the daemon's.
func (r *Rig) Socket() string { return r.path("state", "orlopd.sock") }

// Start starts the daemon and waits until it answers.
func (r *Rig) Start() {
	r.t.Helper()
	logFile, err := os.OpenFile(r.path("orlopd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer logFile.Close()
	args := []string{"--root", r.path("root"), "--state", r.path("state")}
	if _, err := os.Stat(r.path("config.toml")); err == nil {
		args = append(args, "--config", r.path("config.toml"))
	}
	r.daemon = exec.Command(filepath.Join(r.bin, "orlopd"), args...)
	r.daemon.Stdout, r.daemon.Stderr = logFile, logFile
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	if !Listens("unix", r.Socket()) {
		log, _ := os.ReadFile(r.path("orlopd.log"))
		r.t.Fatalf("nothing listens on %s\n%s", r.Socket(), log)
	}
}

// configure writes the config for the next start.
func (r *Rig) configure(toml string) {
	r.t.Helper()
	if err := os.WriteFile(r.path("config.toml"), []byte(toml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// Stop ends the daemon by a signal and waits for it.
func (r *Rig) Stop(sig syscall.Signal) {
	r.t.Helper()
	r.daemon.Process.Signal(sig)
	r.daemon.Wait()
}

func (r *Rig) startRegistry() {
	r.t.Helper()
	address := FreeAddress(r.t)
	Registry(r.t, address, r.path("registry"))
	r.Image = address + "/busybox:latest"
	if err := testimage.Write(r.path("layout")); err != nil {
		r.t.Fatal(err)
	}
	r.Must("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+r.path("layout")+":latest", "docker://"+r.Image)
}

func (r *Rig) close() {
	if r.daemon != nil {
		for _, ns := range strings.Fields(r.out("ctr", "-a", r.Socket(), "ns", "ls", "-q")) {
			for _, id := range strings.Fields(r.out("ctr", "-a", r.Socket(), "-n", ns, "t", "ls", "-q")) {
				r.out("ctr", "-a", r.Socket(), "-n", ns, "t", "rm", "-f", id)
			}
			for _, id := range strings.Fields(r.out("ctr", "-a", r.Socket(), "-n", ns, "c", "ls", "-q")) {
				r.out("ctr", "-a", r.Socket(), "-n", ns, "c", "rm", id)
			}
			for _, name := range strings.Fields(r.out("ctr", "-a", r.Socket(), "-n", ns, "i", "ls", "-q")) {
				r.out("ctr", "-a", r.Socket(), "-n", ns, "i", "rm", "--sync", name)
			}
		}
		r.Stop(syscall.SIGTERM)
	}
	for range 100 { // a shim ends after it has answered that it will
		if len(r.shims()) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if left := r.shims(); len(left) > 0 {
		r.t.Errorf("shims are left: %v", left)
	}
	if left := r.mounts(); left != "" {
		r.t.Errorf("mounts are left:\n%s", left)
	}
	if r.t.Failed() {
		log, _ := os.ReadFile(r.path("orlopd.log"))
		r.t.Logf("the daemon's log:\n%s", log)
	}
	os.RemoveAll(r.dir)
}

func (r *Rig) mounts() string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var left []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, r.dir) {
			left = append(left, line)
		}
	}
	return strings.Join(left, "")
}

func (r *Rig) out(name string, args ...string) string {
	out, _ := exec.Command(name, args...).Output()
	return string(out)
}

// Run runs a program with a time limit and returns what it printed and its exit code.
func (r *Rig) Run(stdin, name string, args ...string) (string, int) {
	r.t.Helper()
	cmd := exec.Command("timeout", append([]string{"-s", "KILL", "60", name}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Must runs a program that has to succeed.
func (r *Rig) Must(name string, args ...string) string {
	r.t.Helper()
	out, code := r.Run("", name, args...)
	if code != 0 {
		r.t.Fatalf("%s %s: exit %d\n%s", name, strings.Join(args, " "), code, out)
	}
	return out
}

// Ctr runs Debian's ctr against the daemon; it has to succeed.
func (r *Rig) Ctr(args ...string) string {
	r.t.Helper()
	return r.Must("ctr", append([]string{"-a", r.Socket()}, args...)...)
}

// shims lists the processes that hold the rig's containers.
func (r *Rig) shims() []int { return r.processes("containerd-shim-orlop-v1") }

// processes lists those whose command line names the program and the rig's folder.
func (r *Rig) processes(program string) []int {
	var out []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, _ := os.ReadFile(f)
		line := string(data)
		if strings.Contains(line, program) && strings.Contains(line, r.dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			out = append(out, pid)
		}
	}
	return out
}
