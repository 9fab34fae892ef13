package archtest

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the lists of dependencies")

const root = "../.."

// TestArchitecture is the check itself.
func TestArchitecture(t *testing.T) {
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Packages) < 5 {
		t.Fatalf("only %d packages found: the check looks at the wrong place", len(tree.Packages))
	}
	for _, line := range Check(tree) {
		t.Error(line)
	}
}

// TestDependencies compares the packages that each program is made of, the
// standard library's apart, with its committed list, so that growth shows in
// review.
func TestDependencies(t *testing.T) {
	dirs, err := filepath.Glob(root + "/cmd/*/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range dirs {
		name := filepath.Base(filepath.Dir(main))
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/"+name)
			cmd.Dir = root
			cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("go list: %v", err)
			}
			deps := strings.Fields(string(out))
			slices.Sort(deps)
			compare(t, filepath.Join("testdata", "deps", name+".txt"), deps)
		})
	}
}

func compare(t *testing.T, file string, deps []string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(deps, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test ./internal/archtest -update writes it", err)
	}
	for _, line := range difference(strings.Fields(string(data)), deps) {
		t.Errorf("%s (go test ./internal/archtest -update, if that is meant)", line)
	}
}

// difference lists what came and what went.
func difference(want, have []string) []string {
	var out []string
	for _, d := range have {
		if !slices.Contains(want, d) {
			out = append(out, "new dependency "+d)
		}
	}
	for _, d := range want {
		if !slices.Contains(have, d) {
			out = append(out, "no longer a dependency: "+d)
		}
	}
	return out
}

func TestDifference(t *testing.T) {
	got := strings.Join(difference([]string{"a", "b"}, []string{"b", "c"}), "; ")
	if got != "new dependency c; no longer a dependency: a" {
		t.Error(got)
	}
	if got := difference([]string{"a"}, []string{"a"}); got != nil {
		t.Error(got)
	}
}

// TestRulesCanFail writes small trees that each break one rule, and one that
// breaks none, and reads them as the real one is read.
func TestRulesCanFail(t *testing.T) {
	const m = Module + "/"
	for _, c := range []struct{ name, file, imports, want string }{
		{"core does no I/O", "core/image", "os", "core/image: imports os: core does no I/O"},
		{"core starts no programs", "core/image", "os/exec", "core/image: imports os/exec: core does no I/O"},
		{"core does no network", "core", "net", "core: imports net: core does no I/O"},
		{"core makes no system calls", "core", "golang.org/x/sys/unix", "core: imports golang.org/x/sys/unix: third-party package not on the list of core"},
		{"core knows no gRPC", "core", "google.golang.org/grpc", "core: imports google.golang.org/grpc: third-party package not on the list of core"},
		{"core knows no bbolt", "core", "go.etcd.io/bbolt", "core: imports go.etcd.io/bbolt: only metadata may"},
		{"core imports no store", "core/gc", m + "metadata", "core/gc: imports " + m + "metadata: core may not import metadata"},
		{"bbolt has one importer", "services/pull", "go.etcd.io/bbolt", "services/pull: imports go.etcd.io/bbolt: only metadata may"},
		{"siblings", "snapshotters/overlayfs", m + "snapshotters/native", "snapshotters/overlayfs: imports " + m + "snapshotters/native: a driver may not import its sibling"},
		{"siblings below", "content/local/x", m + "content/proxy", "content/local/x: imports " + m + "content/proxy: a driver may not import its sibling"},
		{"port and drivers", "snapshotters", m + "snapshotters/native", "snapshotters: imports " + m + "snapshotters/native: a port may not import its drivers"},
		{"drivers and plugins", "content/local", m + "plugins", "content/local: imports " + m + "plugins: only programs know plugins"},
		{"use-cases and plugins", "services/pull", m + "plugins/config", "services/pull: imports " + m + "plugins/config: only programs know plugins"},
		{"use-cases and drivers", "services/pull", m + "snapshotters/native", "services/pull: imports " + m + "snapshotters/native: services may not import a driver of snapshotters"},
		{"use-cases and the wire", "services/pull", "google.golang.org/grpc", "services/pull: imports google.golang.org/grpc: third-party package not on the list of services"},
		{"doors and drivers", "services/docker", m + "metadata", "services/docker: imports " + m + "metadata: services/docker may not import metadata"},
		{"doors and protobuf", "services/docker", m + "protobuf", "services/docker: imports " + m + "protobuf: services/docker may not import protobuf"},
		{"metadata and drivers", "metadata", m + "content/local", "metadata: imports " + m + "content/local: metadata may not import a driver of content"},
		{"api imports nothing", "api/orlop/x/v1", m + "core", "api/orlop/x/v1: imports " + m + "core: api may not import core"},
		{"runtime and shims", "runtime", m + "shims", "runtime: imports " + m + "shims: runtime may not import shims"},
		{"the shim stays short", "shims/server", "github.com/spf13/cobra", "shims/server: imports github.com/spf13/cobra: third-party package not on the list of shims"},
		{"the kernel is alone", "plugins", m + "core", "plugins: imports " + m + "core: plugins may not import core"},
		{"internal is below all", "internal/x", m + "core", "internal/x: imports " + m + "core: internal may not import core"},
		{"unknown third party", "content/local", "example.com/x", "content/local: imports example.com/x: third-party package not on the list of content"},
		{"a prefix is not a folder", "core", "github.com/opencontainers/go-digest-evil", "core: imports github.com/opencontainers/go-digest-evil: third-party package not on the list of core"},
		{"unknown room", "util", "os", "util: is no room of the house"},

		{"driver and port", "snapshotters/overlayfs", m + "snapshotters", ""},
		{"driver and layer", "snapshotters/overlayfs", m + "snapshotters/layer", ""},
		{"use-case and layer", "services/unpack", m + "snapshotters/layer/tarstream", ""},
		{"program", "cmd/orlopd", m + "plugins/builtin", ""},
		{"builtin", "plugins/builtin", m + "content/local", ""},
		{"metadata and bbolt", "metadata", "go.etcd.io/bbolt", ""},
		{"core", "core/image", "github.com/opencontainers/go-digest", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			source := "package x\n\nimport _ \"" + c.imports + "\"\n"
			write(t, filepath.Join(dir, c.file, "x.go"), source)
			write(t, filepath.Join(dir, c.file, "x_test.go"), "package x\n\nimport _ \"example.com/only/in/tests\"\n")
			write(t, filepath.Join(dir, c.file, "testdata", "y.go"), "package x\n\nimport _ \"example.com/y\"\n")
			tree, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(Check(tree), "\n"); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestInitCanFail(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "content/local/x.go"), "package x\n\nfunc init() {}\n")
	write(t, filepath.Join(dir, "api/orlop/x/v1/x.go"), "package x\n\nfunc init() {}\n")
	tree, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := "content/local: has an init function at content/local/x.go:3: nothing registers itself"
	if got := strings.Join(Check(tree), "\n"); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestStrayFilesCanFail(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.go"), "package main\n")
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "main.go: Go files belong into a room") {
		t.Errorf("error %v", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
