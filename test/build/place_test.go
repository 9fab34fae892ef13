package build

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// placed tells that the tests run in a network namespace of their own.
const placed = "ORLOP_BUILD_PLACED"

// TestMain runs the tests in a network namespace of their own, where the daemon makes
// bridges and rules as it likes.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(placed) != "" {
		os.Exit(m.Run())
	}
	// The clients are built first: only the machine's own network leads to their sources.
	for _, name := range []string{"buildx", "buildctl"} {
		if _, err := tool(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	const script = `ip link set lo up && sysctl -qw net.ipv4.ip_forward=1 && exec "$@"`
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
