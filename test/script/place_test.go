package script

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// placed tells that the tests run in a network namespace of their own.
const placed = "ORLOP_SCRIPT_PLACED"

// TestMain runs the tests in a network namespace of their own, where daemons make
// bridges and rules as they like: the machine's is not touched, and nothing of it
// is in their way. Forwarding is on there, as it is on hosts of containers, so that
// daemons that share the place don't turn it off for each other.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(placed) != "" {
		os.Exit(m.Run())
	}
	const script = `ip link set lo up && ip link add wan type veth peer name world && ip addr add 10.250.0.1/24 dev wan && ip link set wan up && ip link set world up &&
		ip route add default via 10.250.0.2 && sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 && exec "$@"`
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command("unshare", append([]string{"--net", "sh", "-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), placed+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(0)
}
