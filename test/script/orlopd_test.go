package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Each script starts the daemons it needs, in its own folder: $WORK/root and
// $WORK/state.
func TestOrlopd(t *testing.T) {
	r := newRig(t)
	r.must("ln", "-s", "orlopd", r.path("bin", "containerd"))
	r.writeImage()
	r.startRegistry()
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "orlopd",
			Setup: func(e *testscript.Env) error {
				e.Setenv("PATH", r.path("bin")+":"+os.Getenv("PATH"))
				e.Setenv("REGISTRY", r.registry)
				e.Setenv("ORLOP_ADDRESS", filepath.Join(e.WorkDir, "state", "orlopd.sock"))
				e.Setenv("ORLOP_NAMESPACE", "demo")
				return nil
			},
			Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": code, "eventually": eventually, "hangup": hangup, "fill": fill, "damage": damage},
			RequireExplicitExec: true,
		})
	})
}

// hangup sends SIGHUP to the only running command in the background.
func hangup(ts *testscript.TestScript, neg bool, _ []string) {
	cmds := ts.BackgroundCmds()
	if neg || len(cmds) != 1 {
		ts.Fatalf("hangup needs one command in the background, there are %d", len(cmds))
	}
	ts.Check(cmds[0].Process.Signal(syscall.SIGHUP))
}

// fill writes the script's folder into files where they say @WORK@.
func fill(ts *testscript.TestScript, neg bool, files []string) {
	for _, f := range files {
		text := strings.ReplaceAll(ts.ReadFile(f), "@WORK@", ts.Getenv("WORK"))
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(text), 0o600))
	}
}

// damage flips a byte of the largest blob of the daemon in root.
func damage(ts *testscript.TestScript, neg bool, _ []string) {
	out, err := exec.Command("sh", "-c", "ls -S "+ts.MkAbs("root")+"/io.containerd.content.v1.content/blobs/sha256/* | head -1").Output()
	ts.Check(err)
	path := strings.TrimSpace(string(out))
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[len(data)/2] ^= 0xff
	ts.Check(os.WriteFile(path, data, 0o444))
}
