package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/orlop/orlop/test/e2e"
)

// dockerRig gives each script a daemon of its own, with the image "box" in it, and
// the unmodified docker client.
type dockerRig struct {
	*rig
	programs string // folders of programs, as in PATH
}

func TestDocker(t *testing.T) {
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("needs the docker client")
	}
	testEngine(t, "docker", "bin")
}

// TestOrlop runs what is our own client's alone, and then what docker's users do, by
// our client under docker's name.
func TestOrlop(t *testing.T) {
	testEngine(t, "orlop", "bin")
	testEngine(t, "docker", "posing", "bin")
}

// testEngine runs the scripts of a folder, with programs from these folders.
func testEngine(t *testing.T, scripts string, bins ...string) {
	r := dockerRig{rig: newRig(t)}
	r.programs = r.dir + "/" + strings.Join(bins, ":"+r.dir+"/")
	if err := errors.Join(os.Mkdir(r.path("posing"), 0o755), os.Symlink(r.path("bin", "orlop"), r.path("posing", "docker"))); err != nil {
		t.Fatal(err)
	}
	r.writeImage()
	r.startRegistry()
	t.Run(scripts, func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:       scripts,
			Setup:     r.setup,
			Condition: fileSystem,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "eventually": eventually,
				"daemon": r.daemon, "machine": r.machine, "api": api},
			RequireExplicitExec: true,
		})
	})
	for _, line := range strings.Split(r.must("cat", "/proc/self/mounts"), "\n") {
		if strings.Contains(line, r.dir) {
			t.Errorf("a mount is left: %s", line)
		}
	}
}

// fileSystem knows [filesystem:name]: such a one can be made and mounted here.
func fileSystem(cond string) (bool, error) {
	name, ok := strings.CutPrefix(cond, "filesystem:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	known, err := os.ReadFile("/proc/filesystems")
	_, absent := exec.LookPath("mkfs." + name)
	return absent == nil && strings.Contains(string(known), "\t"+name+"\n"), err
}

// setup starts a daemon in a folder of its own: paths of sockets must be short.
func (r dockerRig) setup(e *testscript.Env) error {
	dir, err := os.MkdirTemp(r.dir, "d")
	if err != nil {
		return err
	}
	e.Setenv("PATH", r.programs+":"+os.Getenv("PATH"))
	e.Setenv("REGISTRY", r.registry)
	e.Setenv("ARCHIVE", r.path("image.tar"))
	e.Setenv("DIR", dir)
	e.Setenv("DOCKER_CONFIG", e.WorkDir)
	e.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "state", "docker.sock"))
	e.Setenv("ORLOP_ADDRESS", filepath.Join(dir, "state", "orlopd.sock"))
	if err := startDaemon(r.path("bin"), dir); err != nil {
		return err
	}
	e.Defer(func() {
		r.removeAll(e.Vars)
		if err := signalDaemon(dir, syscall.SIGTERM); err != nil {
			r.t.Error(err)
		}
	})
	for _, args := range [][]string{{"pull", "-q", r.registry + "/box"}, {"tag", r.registry + "/box", "box"}, {"rmi", r.registry + "/box"}} {
		cmd := exec.Command(r.path("bin", "orlop"), args...)
		cmd.Env = e.Vars
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("docker %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// removeAll removes what a script that failed has left: containers outlive a daemon.
func (r dockerRig) removeAll(env []string) {
	list := exec.Command(r.path("bin", "orlop"), "ps", "-aq")
	list.Env = env
	ids, err := list.Output()
	if err != nil || len(bytes.TrimSpace(ids)) == 0 {
		return // there are none, or no daemon that would know
	}
	remove := exec.Command(r.path("bin", "orlop"), append([]string{"rm", "-f"}, strings.Fields(string(ids))...)...)
	remove.Env = env
	if out, err := remove.CombinedOutput(); err != nil {
		r.t.Errorf("docker rm: %v: %s", err, out)
	}
}

// startDaemon starts the daemon, with its files below dir, and waits for its door.
func startDaemon(bin, dir string) error {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"--root", filepath.Join(dir, "root"), "--state", filepath.Join(dir, "state")}
	if config := filepath.Join(dir, "config.toml"); exists(config) {
		args = append(args, "--config", config)
	}
	cmd := exec.Command(filepath.Join(bin, "orlopd"), args...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	if e2e.Listens("unix", filepath.Join(dir, "state", "docker.sock")) {
		return nil
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("the daemon does not come up: %s", text)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// signalDaemon ends the daemon and waits until it is gone.
func signalDaemon(dir string, sig syscall.Signal) error {
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return err
	}
	for range 400 {
		if syscall.Kill(pid, 0) != nil {
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("the daemon does not end")
}

// daemon is the command "daemon kill|stop|start". It is started with $DIR/config.toml if that is there.
func (r dockerRig) daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon kill|stop|start")
	}
	switch dir := ts.Getenv("DIR"); args[0] {
	case "kill":
		ts.Check(signalDaemon(dir, syscall.SIGKILL))
	case "stop":
		ts.Check(signalDaemon(dir, syscall.SIGTERM))
	case "start":
		ts.Check(startDaemon(r.path("bin"), dir))
	}
}

// api is the command "api STATUS METHOD PATH [BODY [TYPE]]": it makes a request and
// writes headers and body to the file "answer".
func api(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: api STATUS METHOD PATH [BODY [TYPE]]")
	}
	socket := strings.TrimPrefix(ts.Getenv("DOCKER_HOST"), "unix://")
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	defer client.CloseIdleConnections()
	var body io.Reader
	if len(args) > 3 {
		body = strings.NewReader(args[3])
	}
	req, err := http.NewRequest(args[1], "http://docker"+args[2], body)
	ts.Check(err)
	if len(args) > 3 {
		req.Header.Set("Content-Type", "application/json")
	}
	if len(args) > 4 {
		req.Header.Set("Content-Type", args[4])
	}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var text bytes.Buffer
	resp.Header.Write(&text)
	text.WriteString("\n")
	if json.Indent(&text, data, "", "  ") != nil {
		text.Write(data)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), text.Bytes(), 0o600))
	if fmt.Sprint(resp.StatusCode) != args[0] {
		ts.Fatalf("status %d, want %s: %s", resp.StatusCode, args[0], data)
	}
}
