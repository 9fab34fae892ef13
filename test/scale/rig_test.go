package scale

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// placed tells that the tests run in a network namespace of their own.
const placed = "ORLOP_SCALE_PLACED"

// TestMain runs the tests in a network namespace of their own.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(placed) != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	const script = `ip link set lo up && sysctl -qw net.ipv4.ip_forward=1 && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), placed+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// rig is a private daemon with the image "box", which has busybox and nothing else.
type rig struct {
	t      *testing.T
	dir    string
	daemon *exec.Cmd
	exited chan struct{} // closed when the daemon has ended
	api    *client.Client
	made   map[string]bool // IDs of containers
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	dir, err := os.MkdirTemp("", "orlop-scale-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, made: map[string]bool{}}
	t.Cleanup(r.close)
	r.must("go", "build", "-o", r.path("bin")+"/", "../../cmd/orlopctl", "../../cmd/orlopd", "../../cmd/containerd-shim-orlop-v1")
	config := fmt.Sprintf("[plugins.\"io.containerd.server.v1.debug\"]\naddress = %q\n", r.path("debug.sock"))
	if err := os.WriteFile(r.path("config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	in, err := r.api.ImageImport(t.Context(), client.ImageImportSource{Source: box(t), SourceName: "-"}, "box", client.ImageImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Fatal(err)
	}
	return r
}

// box is the tree of the image.
func box(t *testing.T) io.Reader {
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	for _, name := range []string{"sleep", "true"} {
		w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func (r *rig) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

func (r *rig) must(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// readyWait bounds the wait for the daemon's door.
const readyWait = time.Minute

// start starts the daemon and waits until it answers.
func (r *rig) start() (took time.Duration) {
	r.t.Helper()
	log, err := os.OpenFile(r.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(r.path("bin", "orlopd"), "--root", r.path("root"), "--state", r.path("state"), "--config", r.path("config.toml"))
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	r.daemon, r.exited = cmd, exited
	if r.api == nil {
		if r.api, err = client.New(client.WithHost("unix://" + r.path("state", "docker.sock"))); err != nil {
			r.t.Fatal(err)
		}
	}
	for time.Since(began) < readyWait {
		if _, err := r.api.Ping(r.t.Context(), client.PingOptions{}); err == nil {
			return time.Since(began)
		}
		select {
		case <-exited:
			r.t.Fatalf("the daemon does not start:\n%s", r.log())
		case <-time.After(2 * time.Millisecond):
		}
	}
	r.t.Fatalf("the daemon is not ready:\n%s", r.log())
	return 0
}

// end ends the daemon by a signal.
func (r *rig) end(sig os.Signal) {
	r.daemon.Process.Signal(sig)
	<-r.exited
}

// log is the end of what the daemon has written.
func (r *rig) log() string {
	data, _ := os.ReadFile(r.path("log"))
	return string(data[max(0, len(data)-4000):])
}

// close removes containers that a failed test has left, and everything else.
func (r *rig) close() {
	if r.daemon == nil {
		os.RemoveAll(r.dir)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if all, err := r.api.ContainerList(ctx, client.ContainerListOptions{All: true}); err == nil {
		for _, c := range all.Items {
			r.api.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true})
		}
	}
	r.api.Close()
	r.end(os.Interrupt)
	mounted, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounted)) {
		if strings.Contains(line, r.dir) {
			r.t.Errorf("a mount is left: %s", line)
			return
		}
	}
	if r.t.Failed() {
		r.t.Logf("the daemon's log:\n%s", r.log())
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

// goroutines asks the daemon's debug door how many it has.
func (r *rig) goroutines() int {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.path("debug.sock"))
	}}}
	resp, err := c.Get("http://debug/debug/pprof/goroutine?debug=1")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var n int
	if _, err := fmt.Fscanf(resp.Body, "goroutine profile: total %d", &n); err != nil {
		r.t.Fatalf("goroutines: %v", err)
	}
	return n
}
