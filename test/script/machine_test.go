package script

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/orlop/orlop/test/e2e"
)

// machine is the command "machine reboot": the daemon, shims and containers die at
// once, what is in memory is lost, and the daemon starts.
func (r dockerRig) machine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || !slices.Equal(args, []string{"reboot"}) {
		ts.Fatalf("usage: machine reboot")
	}
	dir := ts.Getenv("DIR")
	containers := exec.Command("docker", "ps", "-q", "--no-trunc")
	containers.Env = append(os.Environ(), "DOCKER_HOST="+ts.Getenv("DOCKER_HOST"))
	ids, err := containers.Output()
	ts.Check(err)
	ts.Check(signalDaemon(dir, syscall.SIGKILL))
	ts.Check(e2e.Reboot(dir, strings.Fields(string(ids))))
	ts.Check(startDaemon(r.path("bin"), dir))
}
