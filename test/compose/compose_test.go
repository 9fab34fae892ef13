package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// placed tells that the tests run in a network namespace of their own.
const placed = "ORLOP_COMPOSE_PLACED"

// TestMain runs the tests in a network namespace of their own, with a cable whose
// other end is moved to one more namespace later.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(placed) != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err == nil {
		err = downloadPlugin() // there is no way out of the namespace
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	const script = `ip link set lo up && ip link add wan type veth peer name client && ip addr add 10.251.0.1/24 dev wan && ip link set wan up &&
		sysctl -qw net.ipv4.ip_forward=1 && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), placed+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// downloadPlugin gets the modules of docker compose.
func downloadPlugin() error {
	if out, err := exec.Command("go", "mod", "download", "-C", "plugin").CombinedOutput(); err != nil {
		return fmt.Errorf("go mod download: %w: %s", err, out)
	}
	return nil
}

// rig is a private daemon, the docker command with the compose plugin, and somebody
// on another machine.
type rig struct {
	t       *testing.T
	dir     string
	daemon  *exec.Cmd
	outside *exec.Cmd // holds the other network namespace
}

func newRig(t *testing.T) *rig {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	for _, p := range []string{"docker", "nginx", "redis-server", "/usr/bin/python3", "/usr/lib/postgresql/15/bin/postgres", "/bin/busybox"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s (test/deps.sh)", p)
		}
	}
	dir, err := os.MkdirTemp("", "orlop-compose-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir}
	t.Cleanup(r.close)
	r.must("go", "build", "-o", r.path("bin")+"/", "../../cmd/orlop", "../../cmd/orlopd", "../../cmd/containerd-shim-orlop-v1")
	r.must("go", "build", "-C", "plugin", "-o", r.path("config", "cli-plugins", "docker-compose"), "github.com/docker/compose/v5/cmd")
	r.must("cp", "-r", "testdata", r.path("app"))
	r.startOutside()
	r.startDaemon()
	r.importImages(t)
	return r
}

func (r *rig) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// command is a client's.
func (r *rig) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+r.path("state", "docker.sock"), "DOCKER_CONFIG="+r.path("config"), "COMPOSE_ANSI=never", "COMPOSE_PROGRESS=plain")
	return cmd
}

// must runs a command here and returns what it prints.
func (r *rig) must(name string, args ...string) string {
	r.t.Helper()
	return r.output(r.command(name, args...))
}

func (r *rig) output(cmd *exec.Cmd) string {
	r.t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), stderr.Bytes())
	}
	return out.String()
}

// compose runs docker compose for the application.
func (r *rig) compose(args ...string) string {
	r.t.Helper()
	cmd := r.command("docker", append([]string{"compose"}, args...)...)
	cmd.Dir = r.path("app")
	return r.output(cmd)
}

// startOutside moves the other end of the cable into another namespace.
func (r *rig) startOutside() {
	r.outside = exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 1000")
	ready, err := r.outside.StdoutPipe()
	if err == nil {
		err = r.outside.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		r.t.Fatal(err)
	}
	r.must("ip", "link", "set", "client", "netns", fmt.Sprint(r.outside.Process.Pid))
	r.away("sh", "-c", "ip addr add 10.251.0.2/24 dev client && ip link set client up")
}

// away runs a command in the other namespace.
func (r *rig) away(args ...string) string {
	r.t.Helper()
	return r.must("nsenter", append([]string{"-n", "-t", fmt.Sprint(r.outside.Process.Pid)}, args...)...)
}

// waits bounds whatever is waited for.
const waits = time.Minute

func (r *rig) startDaemon() {
	log, err := os.Create(r.path("log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.daemon = exec.Command(r.path("bin", "orlopd"), "--root", r.path("root"), "--state", r.path("state"))
	r.daemon.Stdout, r.daemon.Stderr = log, log
	if err := r.daemon.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the daemon answers", func() error { return r.command("docker", "version").Run() })
}

func (r *rig) eventually(what string, fn func() error) {
	r.t.Helper()
	var err error
	for began := time.Now(); time.Since(began) < waits; time.Sleep(50 * time.Millisecond) {
		if err = fn(); err == nil {
			return
		}
	}
	r.t.Fatalf("%s: %v", what, err)
}

func (r *rig) close() {
	if r.daemon != nil {
		if r.t.Failed() {
			log, _ := os.ReadFile(r.path("log"))
			r.t.Logf("the daemon's log:\n%s", log[max(0, len(log)-4000):])
		}
		ids, _ := r.command("docker", "ps", "-aq").Output()
		if list := strings.Fields(string(ids)); len(list) > 0 {
			r.command("docker", append([]string{"rm", "-f"}, list...)...).Run()
		}
		r.daemon.Process.Signal(os.Interrupt)
		r.daemon.Wait()
		if mounted, _ := os.ReadFile("/proc/self/mounts"); bytes.Contains(mounted, []byte(r.dir)) {
			r.t.Error("a mount is left")
			return
		}
	}
	if r.outside != nil {
		r.outside.Process.Kill()
		r.outside.Wait()
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

// page is fetched from the other namespace.
var page = regexp.MustCompile(`^(\w+) visits=(\d+) orders=(\d+) host=([0-9a-f]{12})\n$`)

// visit fetches the page.
func (r *rig) visit() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", "-n", "-t", fmt.Sprint(r.outside.Process.Pid), "busybox", "wget", "-qO-", "http://10.251.0.1:8088/").Output()
	if err != nil {
		return nil, err
	}
	got := page.FindStringSubmatch(string(out))
	if got == nil {
		return nil, fmt.Errorf("the page is %q", out)
	}
	return got, nil
}

// TestShop is the life of an application.
func TestShop(t *testing.T) {
	r := newRig(t)
	r.compose("config", "--quiet")
	r.compose("up", "-d", "--wait", "--wait-timeout", "90")
	for _, step := range []struct {
		name string
		fn   func(*rig)
	}{{"page", (*rig).thePage}, {"logs and exec", (*rig).logsAndExec}, {"profile", (*rig).profile}, {"scale", (*rig).scale}, {"recreate", (*rig).recreate},
		{"stop and start", (*rig).stopAndStart}, {"down", (*rig).down}} {
		t.Run(step.name, func(t *testing.T) {
			mine := *r
			mine.t = t
			step.fn(&mine)
		})
		if t.Failed() {
			t.Logf("containers:\n%s", r.compose("ps", "-a"))
			return
		}
	}
}

func (r *rig) thePage() {
	var first []string
	r.eventually("the page shows orders", func() (err error) {
		if first, err = r.visit(); err == nil && first[3] == "0" {
			err = errors.New("there are none yet")
		}
		return err
	})
	if first[1] != "hello" {
		r.t.Errorf("the greeting is %q", first[1])
	}
	second, err := r.visit()
	if err != nil || second[2] == first[2] {
		r.t.Errorf("the second visit is number %v like the first: %v", second, err)
	}
}

func (r *rig) logsAndExec() {
	r.eventually("the worker's log", func() error {
		if log := r.compose("logs", "--no-color", "--no-log-prefix", "worker"); !strings.Contains(log, "order 2\n") {
			return fmt.Errorf("it is %q", log)
		}
		return nil
	})
	if log := r.compose("logs", "--no-color", "web"); !strings.Contains(log, "web-1") || !strings.Contains(log, `"GET / HTTP/1.1" 200`) {
		r.t.Errorf("the log of nginx is %q", log)
	}
	if out := r.compose("exec", "-T", "cache", "redis-cli", "exists", "visits"); out != "1\n" {
		r.t.Errorf("redis-cli says %q", out)
	}
	if out := r.compose("exec", "-T", "database", "psql", "-qAt", "-h", "/tmp", "-c", "select current_user"); out != "postgres\n" {
		r.t.Errorf("psql says %q", out)
	}
	if out := r.compose("top", "worker"); !strings.Contains(out, "worker.sh") {
		r.t.Errorf("top says %q", out)
	}
	if out := r.compose("port", "web", "80"); out != "0.0.0.0:8088\n" {
		r.t.Errorf("port says %q", out)
	}
}

func (r *rig) profile() {
	if ids := r.compose("ps", "-aq", "worker"); strings.Count(ids, "\n") != 1 {
		r.t.Errorf("workers: %q", ids)
	}
	if all := r.must("docker", "ps", "-a", "--format", "{{.Names}}"); strings.Contains(all, "report") {
		r.t.Errorf("what is in a profile runs without it: %q", all)
	}
	if out := r.compose("--profile", "tools", "run", "--rm", "-T", "report"); out != "orders: true\n" {
		r.t.Errorf("the report is %q", out)
	}
}

func (r *rig) scale() {
	r.compose("up", "-d", "--wait", "--scale", "api=3", "--no-recreate")
	if ids := strings.Fields(r.compose("ps", "-q", "api")); len(ids) != 3 {
		r.t.Fatalf("%d of api run", len(ids))
	}
	hosts := map[string]bool{}
	r.eventually("all three answer", func() error {
		got, err := r.visit()
		if err == nil {
			hosts[got[4]] = true
		}
		if len(hosts) < 3 {
			return fmt.Errorf("%d have: %v", len(hosts), err)
		}
		return nil
	})
	r.compose("up", "-d", "--wait", "--scale", "api=1", "--no-recreate")
	if ids := strings.Fields(r.compose("ps", "-q", "api")); len(ids) != 1 {
		r.t.Errorf("%d of api run", len(ids))
	}
}

// recreate makes the database's container anew: its volume is kept.
func (r *rig) recreate() {
	before := r.compose("ps", "-q", "database")
	r.compose("up", "-d", "--wait", "--force-recreate", "--no-deps", "database")
	if after := r.compose("ps", "-q", "database"); after == before {
		r.t.Error("it is the same container")
	}
	if out := r.compose("exec", "-T", "database", "psql", "-qAt", "-h", "/tmp", "-c", "select count(*) > 1 from orders"); out != "t\n" {
		r.t.Errorf("orders are gone with the container: %q", out)
	}
	r.eventually("the worker goes on", func() error {
		before, err := r.visit()
		if err != nil {
			return err
		}
		time.Sleep(500 * time.Millisecond)
		if after, err := r.visit(); err != nil || after[3] == before[3] {
			return fmt.Errorf("orders %v, before %v: %v", after, before, err)
		}
		return nil
	})
}

func (r *rig) stopAndStart() {
	r.compose("stop")
	if ids := r.compose("ps", "-q"); ids != "" {
		r.t.Errorf("still running: %q", ids)
	}
	if _, err := r.visit(); err == nil {
		r.t.Error("the page is there though nothing runs")
	}
	r.compose("start", "--wait")
	r.eventually("the page is there again", func() error { _, err := r.visit(); return err })
}

func (r *rig) down() {
	r.compose("down", "-v", "--timeout", "3")
	for _, args := range [][]string{{"ps", "-aq"}, {"volume", "ls", "-q"}, {"network", "ls", "-q", "--filter", "type=custom"}} {
		if out := r.must("docker", args...); out != "" {
			r.t.Errorf("docker %s: %q", strings.Join(args, " "), out)
		}
	}
}
