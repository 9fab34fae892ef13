package crash

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/testimage"
)

// rig is a private daemon and a registry with images.
type rig struct {
	t      *testing.T
	dir    string
	root   string   // the daemon's
	tag    string   // begins the names of containers
	wrap   []string // goes before the daemon's command line
	bin    string
	daemon *exec.Cmd
	killed atomic.Bool // the daemon is dead or dying: clients may fail
	// clients ends those that a dead daemon leaves hanging.
	clients    context.Context
	endClients context.CancelFunc
	images     struct{ base, small, medium string }
}

func newRig(t *testing.T) *rig { return newRigOn(t, "") }

// newRigOn has the daemon's root below a folder; empty is a new one.
func newRigOn(t *testing.T, disk string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "orlop-crash-")
	if err != nil {
		t.Fatal(err)
	}
	if disk == "" {
		disk = dir
	}
	r := &rig{t: t, dir: dir, bin: bin, root: filepath.Join(disk, "root"), tag: "crash-" + strings.ToLower(rand.Text()[:8])}
	t.Cleanup(r.close)
	r.startRegistry()
	r.start()
	return r
}

func (r *rig) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

func (r *rig) socket() string { return r.path("state", "orlopd.sock") }

// start starts the daemon, which has to come back by itself.
func (r *rig) start() {
	r.t.Helper()
	log, err := os.OpenFile(r.path("orlopd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	line := append(slices.Clone(r.wrap), filepath.Join(r.bin, "orlopd"), "--root", r.root, "--state", r.path("state"))
	r.daemon = exec.Command(line[0], line[1:]...)
	r.daemon.Stdout, r.daemon.Stderr = log, log
	r.clients, r.endClients = context.WithTimeout(context.Background(), time.Hour)
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	if !e2e.Listens("unix", r.socket()) {
		r.t.Fatalf("nothing listens on %s\n%s", r.socket(), r.log())
	}
	for range 400 {
		if _, code := r.ctr("version"); code == 0 {
			r.killed.Store(false)
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	r.t.Fatalf("the daemon doesn't come back\n%s", r.log())
}

// stop ends the daemon by a signal.
func (r *rig) stop(sig syscall.Signal) {
	r.killed.Store(true)
	r.daemon.Process.Signal(sig)
	r.daemon.Wait()
	time.AfterFunc(2*time.Second, r.endClients)
}

func (r *rig) log() string {
	log, _ := os.ReadFile(r.path("orlopd.log"))
	return string(log[max(0, len(log)-8000):])
}

func (r *rig) startRegistry() {
	r.t.Helper()
	address := e2e.FreeAddress(r.t)
	e2e.Registry(r.t, address, r.path("registry"))
	r.images.base, r.images.small, r.images.medium = address+"/base:1", address+"/small:1", address+"/medium:1"
	for _, name := range []string{r.images.base, r.images.small, r.images.medium} {
		layout := r.path("layout")
		write := testimage.Write
		if name == r.images.medium {
			write = func(dir string) error { return testimage.WriteLayers(dir, 1) }
		}
		if err := errors.Join(os.RemoveAll(layout), write(layout)); err != nil {
			r.t.Fatal(err)
		}
		out, err := exec.Command("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+name).CombinedOutput()
		if err != nil {
			r.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// clientLimit bounds a client of a living daemon: one that hangs is an error.
const clientLimit = 30 * time.Second

// ctr runs Debian's ctr and returns what it printed and its exit code; 124 is one
// that hung.
func (r *rig) ctr(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(r.clients, clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"-a", r.socket(), "--connect-timeout", "5s"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return out.String() + "(hung)", 124
	}
	if err != nil && cmd.ProcessState == nil {
		return err.Error(), 125
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// lines are the words that ctr prints with -q.
func (r *rig) lines(args ...string) []string {
	out, code := r.ctr(args...)
	if code != 0 {
		r.t.Errorf("ctr %s: exit %d\n%s", strings.Join(args, " "), code, out)
		return nil
	}
	return strings.Fields(out)
}

// shims are the processes that hold the rig's containers.
func (r *rig) shims() []int {
	var found []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		exe, _ := os.Readlink(p + "/exe")
		if !strings.HasPrefix(filepath.Base(exe), "containerd-shim") {
			continue
		}
		line, _ := os.ReadFile(p + "/cmdline")
		cwd, _ := os.Readlink(p + "/cwd")
		if bytes.Contains(line, []byte(r.dir)) || strings.HasPrefix(cwd, r.dir) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			found = append(found, pid)
		}
	}
	return found
}

func (r *rig) close() {
	if r.daemon != nil {
		if r.killed.Load() {
			r.start()
		}
		r.clean()
		r.stop(syscall.SIGTERM)
	}
	r.noShims()
	for _, pid := range r.shims() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if left := r.mounts(); len(left) > 0 {
		r.t.Errorf("mounts are left: %s", left)
		for i := len(left) - 1; i >= 0; i-- {
			syscall.Unmount(left[i], syscall.MNT_DETACH)
		}
	}
	if r.t.Failed() {
		r.t.Logf("the daemon's log:\n%s", r.log())
	}
	os.RemoveAll(r.dir)
}

// mounts are the mount points below the rig's folder.
func (r *rig) mounts() []string {
	data, _ := os.ReadFile("/proc/self/mounts")
	var left []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[1], r.dir) {
			left = append(left, f[1])
		}
	}
	return left
}
