package script

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"

	"github.com/orlop/orlop/test/e2e"
	"github.com/orlop/orlop/test/s3rig"
)

// registryRig gives each script daemons with registries, and unmodified clients.
type registryRig struct {
	*rig
	// objects is where daemons keep their blobs; nil is in files.
	objects *s3rig.Server
}

// TestRegistry drives the registry by docker, crane, skopeo and oras.
func TestRegistry(t *testing.T) { driveRegistry(t, nil) }

// TestRegistryOnS3 does the same with all blobs, those of the engine too, on object
// storage.
func TestRegistryOnS3(t *testing.T) { driveRegistry(t, s3rig.Start(t)) }

func driveRegistry(t *testing.T, objects *s3rig.Server) {
	r := registryRig{newRig(t), objects}
	for _, tool := range []string{"crane", "oras"} {
		if err := os.Symlink(e2e.Tool(t, tool), r.path("bin", tool)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	r.writeImage()
	t.Run("scripts", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:   "registry",
			Setup: r.setup,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "eventually": eventually, "user": user,
				"registry": r.registry, "certificate": r.certificate},
			RequireExplicitExec: true,
		})
	})
	if objects != nil && objects.Seen("PUT") == 0 {
		t.Error("nothing was put on the object storage")
	}
}

func (r registryRig) setup(e *testscript.Env) error {
	dir, err := os.MkdirTemp(r.dir, "d")
	if err != nil {
		return err
	}
	e.Setenv("PATH", r.path("bin")+":"+os.Getenv("PATH"))
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("FREE", e2e.FreeAddress(r.t))
	e.Setenv("DIR", dir)
	e.Setenv("LAYOUT", r.path("layout"))
	e.Setenv("ARCHIVE", r.path("image.tar"))
	e.Setenv("DOCKER_CONFIG", e.WorkDir)
	e.Setenv("REGISTRY_AUTH_FILE", filepath.Join(e.WorkDir, "config.json"))
	return nil
}

// registry is the command "registry start|stop|kill [NAME]": a daemon with a registry
// whose config is NAME.toml, in which @LISTEN@ and @WORK@ stand for an address of its
// own and the script's folder. $NAME is the address afterwards. The first is REGISTRY,
// and DOCKER_HOST is its daemon.
func (r registryRig) registry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: registry start|stop|kill [NAME]")
	}
	name := "registry"
	if len(args) > 1 {
		name = args[1]
	}
	dir := filepath.Join(ts.Getenv("DIR"), name)
	switch args[0] {
	case "kill":
		ts.Check(signalDaemon(dir, syscall.SIGKILL))
	case "stop":
		ts.Check(signalDaemon(dir, syscall.SIGTERM))
	case "start":
		ts.Check(os.MkdirAll(dir, 0o700))
		address := ts.Getenv(strings.ToUpper(name))
		if address == "" {
			address = e2e.FreeAddress(r.t)
			ts.Defer(func() { signalDaemon(dir, syscall.SIGTERM) })
		}
		metrics := e2e.FreeAddress(r.t)
		ts.Setenv("METRICS", metrics)
		text := strings.NewReplacer("@LISTEN@", address, "@METRICS@", metrics, "@UPSTREAM@", ts.Getenv("UPSTREAM"), "@WORK@", ts.Getenv("WORK"), "@DIR@", dir).Replace(ts.ReadFile(name+".toml")) + r.storage(dir)
		ts.Check(os.WriteFile(filepath.Join(dir, "config.toml"), []byte(text), 0o600))
		if err := startDaemon(r.path("bin"), dir); err != nil {
			ts.Fatalf("%v", err)
		}
		ts.Check(answers(address, dir))
		ts.Setenv(strings.ToUpper(name), address)
		if name == "registry" {
			ts.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "state", "docker.sock"))
		}
	}
}

// certificate is the command "certificate": it writes ca.pem, and server.pem with
// server.key for 127.0.0.1.
func (r registryRig) certificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: certificate")
	}
	newAuthority(r.t, ts.Getenv("WORK"), "ca").issue("server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
}

// storage is the config of where a daemon keeps its blobs.
func (r registryRig) storage(dir string) string {
	if r.objects == nil {
		return ""
	}
	prefix, _ := filepath.Rel(r.dir, dir)
	return r.objects.TOML(prefix + "/")
}

// answers waits until a registry listens, whose daemon is in dir.
func answers(address, dir string) error {
	if e2e.Listens("tcp", address) {
		return nil
	}
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	return fmt.Errorf("the registry does not come up: %s", text)
}

// user is the command "user FILE NAME PASSWORD": it adds a line to an htpasswd file.
func user(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: user FILE NAME PASSWORD")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(args[2]), bcrypt.MinCost)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = fmt.Fprintf(f, "%s:%s\n", args[1], hash)
	ts.Check(errors.Join(err, f.Close()))
}
