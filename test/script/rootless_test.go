package script

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/test/e2e"
)

// rootlessRig is a user of the system, made for the test, with a daemon of its own.
type rootlessRig struct {
	*rig
	name     string
	uid, gid int
}

// TestRootless runs a daemon of an ordinary user, driven from the host by the unmodified
// docker client.
func TestRootless(t *testing.T) {
	for _, program := range []string{"docker", "newuidmap", "slirp4netns", "useradd"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	r := &rootlessRig{rig: newRig(t)}
	r.must("chmod", "711", r.dir, os.Getenv(programs))
	r.writeImage()
	r.makeUser()
	r.serveImage()
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "rootless",
			Setup: func(e *testscript.Env) error {
				e.Setenv("PATH", r.path("bin")+":"+os.Getenv("PATH"))
				e.Setenv("ARCHIVE", r.path("image.tar"))
				e.Setenv("REGISTRY", r.registry)
				e.Setenv("DIR", r.dir)
				e.Setenv("RUID", strconv.Itoa(r.uid))
				e.Setenv("DOCKER_CONFIG", e.WorkDir)
				e.Setenv("DOCKER_HOST", "unix://"+r.socketPath())
				return r.startUsers()
			},
			Cmds:                map[string]func(*testscript.TestScript, bool, []string){"eventually": eventually, "daemon": r.daemon},
			RequireExplicitExec: true,
		})
	})
	r.endUser()
}

func (r *rootlessRig) socketPath() string { return r.path("run", "orlop", "docker.sock") }

// makeUser makes the user, its folders and a TUN device that it may open, as on hosts
// with udev.
func (r *rootlessRig) makeUser() {
	r.t.Helper()
	r.name = fmt.Sprintf("orlop-t%d", os.Getpid())
	r.must("useradd", "--home-dir", r.path("home"), "--create-home", "--shell", "/bin/sh", r.name)
	r.t.Cleanup(func() { r.endUser(); r.must("userdel", r.name) })
	number := func(flag string) int {
		n, err := strconv.Atoi(strings.TrimSpace(r.must("id", flag, r.name)))
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	}
	r.uid, r.gid = number("-u"), number("-g")
	r.must("install", "-d", "-o", r.name, "-m", "700", r.path("run"), r.path("home", ".config"), r.path("home", ".config", "orlop"))
	r.must("mknod", "-m", "666", r.path("tun"), "c", "10", "200")
}

// outside is this machine's address for who isn't on it (see inPlace).
const outside = "10.250.0.1"

// serveImage starts a registry that is reached from the user's namespaces, and says in
// the user's config that it has no TLS.
func (r *rootlessRig) serveImage() {
	r.t.Helper()
	r.startRegistry()
	l, err := net.Listen("tcp", outside+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.registry = l.Addr().String()
	l.Close()
	hosts := r.path("home", ".config", "orlop", "certs.d", r.registry)
	for path, text := range map[string]string{
		filepath.Join(hosts, "hosts.toml"):                fmt.Sprintf("server = \"http://%s\"\n", r.registry),
		r.path("home", ".config", "orlop", "config.toml"): fmt.Sprintf("[plugins.\"io.containerd.transfer.v1.local\"]\nconfig_path = [%q]\n", filepath.Dir(hosts)),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.must("chown", "-R", r.name+":", r.path("home"))
	e2e.Registry(r.t, r.registry, r.path("registry"))
}

// startUsers starts the daemon as the user and waits for its door.
func (r *rootlessRig) startUsers() error {
	log, err := os.OpenFile(r.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	const script = `mount --bind "$1" /dev/net/tun && cd / && exec setpriv --reuid "$2" --regid "$3" --init-groups env -i \
		HOME="$4/home" XDG_RUNTIME_DIR="$4/run" PATH="$4/bin:$PATH" USER="$5" "$4/bin/orlopd" --rootless`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", r.path("tun"), strconv.Itoa(r.uid), strconv.Itoa(r.gid), r.dir, r.name)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait()
	if err := os.WriteFile(r.path("pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	if e2e.Listens("unix", r.socketPath()) {
		return nil
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("the daemon does not come up: %s", text)
}

// daemon is the command "daemon kill|stop|start"; kill is that of the daemon proper.
func (r *rootlessRig) daemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon kill|stop|start")
	}
	switch args[0] {
	case "kill":
		launcher, err := os.ReadFile(r.path("pid"))
		ts.Check(err)
		for _, pid := range r.processes("orlopd") {
			if strconv.Itoa(pid) != string(launcher) {
				ts.Check(unix.Kill(pid, unix.SIGKILL))
			}
		}
		r.waitEnd(ts)
	case "stop":
		ts.Check(signalDaemon(r.dir, syscall.SIGTERM))
	case "start":
		ts.Check(r.startUsers())
	}
}

// waitEnd waits until the launcher has gone after its daemon.
func (r *rootlessRig) waitEnd(ts *testscript.TestScript) {
	for range 400 {
		if len(r.processes("orlopd")) == 0 {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("the launcher does not end with its daemon")
}

// processes are the user's with a program of that name; "" is all, those of its
// subordinate ids too.
func (r *rootlessRig) processes(name string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		var st unix.Stat_t
		line, _ := os.ReadFile(path + "/cmdline")
		program, _, _ := bytes.Cut(line, []byte{0})
		if unix.Stat(path, &st) != nil || int(st.Uid) != r.uid || len(line) == 0 || name != "" && filepath.Base(string(program)) != name {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(path)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endUser ends all that the user runs; nothing, after scripts that went well.
func (r *rootlessRig) endUser() {
	pids := r.processes("")
	if len(pids) > 0 {
		r.t.Logf("%d processes are left", len(pids))
	}
	e2e.Kill(pids)
}
