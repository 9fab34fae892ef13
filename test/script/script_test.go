// Package script drives programs by testscript files, a folder for each
// program. Its tests need root and what test/deps.sh installs; they build the
// programs and start a private daemon and registry once.
package script

import (
	"fmt"
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
	"github.com/orlop/orlop/test/testimage"
)

// imageName is the image that the command "image" puts into a script's
// namespace.
const imageName = "docker.io/library/box"

// rig is what all scripts share.
type rig struct {
	t        *testing.T
	dir      string
	registry string
}

// newRig makes a folder with the programs in bin, which goes with the test.
func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts file systems and starts containers")
	}
	dir, err := os.MkdirTemp("", "orlop-script-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir}
	t.Cleanup(r.close)
	r.link()
	return r
}

// writeImage makes an image: layout, and the archive image.tar of that.
func (r *rig) writeImage() {
	r.t.Helper()
	if err := testimage.Write(r.path("layout")); err != nil {
		r.t.Fatal(err)
	}
	r.must("tar", "cf", r.path("image.tar"), "-C", r.path("layout"), ".")
}

func TestOrlopctl(t *testing.T) {
	r := newRig(t)
	r.startDaemon()
	r.writeImage()
	r.registry = e2e.FreeAddress(t)
	e2e.Registry(t, r.registry, r.path("registry"))
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 "orlopctl",
			Setup:               r.setup,
			Condition:           r.condition,
			Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": code, "image": r.image, "eventually": eventually},
			RequireExplicitExec: true,
		})
	})
	// All scripts together must leave nothing behind.
	for _, line := range strings.Split(r.must("cat", "/proc/self/mounts"), "\n") {
		if strings.Contains(line, r.dir) && !strings.Contains(line, "/shims") {
			t.Errorf("a mount is left: %s", line)
		}
	}
}

func (r *rig) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

func (r *rig) must(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (r *rig) socket() string { return r.path("state", "orlopd.sock") }

// startDaemon starts a daemon in the rig's own folder, which ends with the test.
func (r *rig) startDaemon() {
	r.t.Helper()
	if err := startDaemon(r.path("bin"), r.dir); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := signalDaemon(r.dir, syscall.SIGTERM); err != nil {
			r.t.Error(err)
		}
	})
}

// startRegistry starts a registry with the image box in it.
func (r *rig) startRegistry() {
	r.t.Helper()
	r.registry = e2e.FreeAddress(r.t)
	e2e.Registry(r.t, r.registry, r.path("registry"))
	r.must("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+r.path("layout")+":latest", "docker://"+r.registry+"/box:latest")
}

// close shows what the rig's own daemon said if the test failed, and removes the folder.
func (r *rig) close() {
	if log, err := os.ReadFile(r.path("log")); err == nil && r.t.Failed() {
		r.t.Logf("the daemon's log:\n%s", log)
	}
	os.RemoveAll(r.dir)
}

// setup gives each script a namespace of its own.
func (r *rig) setup(e *testscript.Env) error {
	ns := "s" + strconv.FormatInt(time.Now().UnixNano(), 36)
	e.Setenv("PATH", r.path("bin")+":"+os.Getenv("PATH"))
	e.Setenv("ORLOP_ADDRESS", r.socket())
	e.Setenv("ORLOP_NAMESPACE", ns)
	e.Setenv("REGISTRY", r.registry)
	e.Setenv("ARCHIVE", r.path("image.tar"))
	e.Setenv("DOCKER_CONFIG", e.WorkDir)
	return nil
}

// condition knows [plugin:id]: the daemon has that plugin and it works.
func (r *rig) condition(cond string) (bool, error) {
	id, ok := strings.CutPrefix(cond, "plugin:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	list := r.must(r.path("bin", "orlopctl"), "-a", r.socket(), "plugins", "ls")
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); f[0] == id && f[1] == "ok" {
			return true, nil
		}
	}
	return false, nil
}

// image is the command that puts the image into the script's namespace, by a
// client that is not ours.
func (r *rig) image(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(ts.Exec("ctr", "-a", r.socket(), "-n", ts.Getenv("ORLOP_NAMESPACE"), "images", "import", "--base-name", imageName, r.path("image.tar")))
}

// code is the command "code N program args…": it fails unless the exit code is
// N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	have := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !asExit(err, &exit) {
			ts.Fatalf("%v", err)
		}
		have = exit.ExitCode()
	}
	if have != want {
		ts.Fatalf("exit code %d, want %d", have, want)
	}
}

func asExit(err error, into **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*into = e
	return ok
}

// eventually runs a command until it succeeds, for ten seconds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	for range 100 {
		if err := ts.Exec(args[0], args[1:]...); (err == nil) != neg {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("did not happen within ten seconds")
}
