// Package registry drives registries, each a daemon of its own, through what scripts
// can't: kills in the middle, storage and neighbours that fail, clients that mean harm.
package registry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
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

var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "orlop-programs-")
	if err == nil {
		var out []byte
		if out, err = exec.Command("go", "build", "-o", dir+"/", "../../cmd/orlop", "../../cmd/orlopd").CombinedOutput(); err != nil {
			err = fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// daemon is a registry without an engine.
type daemon struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
}

// serve starts a registry with a config, in which @DIR@ is its own folder, with files
// (name, text, …) in it. It ends with the test.
func serve(t *testing.T, config string, files ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir(), address: e2e.FreeAddress(t)}
	d.write("config.toml", "version = 4\n"+strings.NewReplacer("@DIR@", d.dir).Replace(config))
	for i := 0; i < len(files); i += 2 {
		d.write(files[i], files[i+1])
	}
	d.start()
	t.Cleanup(d.kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s:\n%s", d.address, d.log())
		}
	})
	return d
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

func (d *daemon) write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) log() string {
	text, _ := os.ReadFile(d.path("log"))
	return string(text)
}

func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(filepath.Join(programs, "orlop"), "registry", "serve", "--listen", d.address,
		"--root", d.path("root"), "--state", d.path("state"), "--config", d.path("config.toml"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	if !e2e.Listens("tcp", d.address) {
		d.t.Fatalf("no registry comes up: %s", d.log())
	}
}

// kill ends it without a warning.
func (d *daemon) kill() { d.end(syscall.SIGKILL) }

// stop lets it finish.
func (d *daemon) stop() { d.end(syscall.SIGTERM) }

func (d *daemon) end(sig syscall.Signal) {
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(sig)
	d.cmd.Wait()
	d.cmd = nil
}

func (d *daemon) url(path string) string { return "http://" + d.address + path }

// ask sends a request and returns the answer's status, header and body.
func (d *daemon) ask(method, path string, body io.Reader, edit ...func(*http.Request)) (int, http.Header, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.url(path), body)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(text)
}

// crane runs the client; it returns what it says, and whether it was content.
func crane(t *testing.T, args ...string) (string, bool) {
	t.Helper()
	cmd := exec.Command(e2e.Tool(t, "crane"), append(args, "--insecure")...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err == nil
}

func mustCrane(t *testing.T, args ...string) string {
	t.Helper()
	out, ok := crane(t, args...)
	if !ok {
		t.Fatalf("crane %s: %s", strings.Join(args, " "), out)
	}
	return out
}

// layout is a small image; large one of so many bytes that don't compress.
func layout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := testimage.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eventually waits for something to become true, for at most half a minute.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("in 30 seconds it did not become true: %s", what)
}
