package script

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/orlop/orlop/test/e2e"
)

// TestMain runs the tests in a network namespace of their own, where daemons make
// bridges and rules as they like: the machine's is not touched, and nothing of it
// is in their way. Forwarding is on there, as it is on hosts of containers, so that
// daemons that share the place don't turn it off for each other.
func TestMain(m *testing.M) {
	if os.Getenv(programs) != "" {
		os.Exit(m.Run())
	}
	dir, err := buildPrograms()
	for _, tool := range []string{"crane", "oras", "versitygw"} {
		if err == nil {
			_, err = e2e.Fetch(tool)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := inPlace(m, dir)
	os.RemoveAll(dir)
	os.Exit(code)
}

// programs is the variable that names the folder of the programs that are tested.
const programs = "ORLOP_TEST_PROGRAMS"

// buildPrograms builds all of them, once for all tests.
func buildPrograms() (string, error) {
	dir, err := os.MkdirTemp("", "orlop-programs-")
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/...").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return dir, nil
}

// link makes the programs known as r.path("bin").
func (r *rig) link() {
	r.t.Helper()
	if err := os.Symlink(os.Getenv(programs), r.path("bin")); err != nil {
		r.t.Fatal(err)
	}
}

// inPlace runs the tests again, with the programs, as root in their own namespace.
func inPlace(m *testing.M, dir string) int {
	os.Setenv(programs, dir)
	if os.Geteuid() != 0 {
		return m.Run()
	}
	const script = `ip link set lo up && ip link add wan type veth peer name world && ip addr add 10.250.0.1/24 dev wan && ip link set wan up && ip link set world up &&
		ip route add default via 10.250.0.2 && sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 && exec "$@"`
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return 1
	}
	return 0
}
