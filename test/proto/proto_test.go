// Package proto checks the .proto files of api/ by buf: their style, and that
// they only grow. buf is pinned in internal/tools; its first build takes minutes.
package proto

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// buf runs buf in a folder with .proto files.
func buf(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	tools, err := filepath.Abs("../../internal/tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"tool", "-modfile=" + tools, "buf"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// api is where the .proto files are.
const api = "../../api"

// edited is a copy of api with one text replaced in every file.
func edited(t *testing.T, from, to string) string {
	t.Helper()
	// Within the module, so that go tool works; hidden, so that go test passes it over.
	dir, err := os.MkdirTemp(".", ".api-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	found := false
	err = filepath.WalkDir(api, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".proto" && filepath.Base(path) != "buf.yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(api, path)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(data), from, to)
		found = found || text != string(data)
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, rel)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), []byte(text), 0o644)
	})
	if err != nil || !found {
		t.Fatalf("nothing says %q (%v)", from, err)
	}
	return dir
}

func TestLint(t *testing.T) {
	if out, err := buf(t, api, "lint"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := buf(t, edited(t, "bool dry_run = 1;", "bool dryRun = 1;"), "lint"); err == nil || !strings.Contains(out, "dryRun") {
		t.Errorf("a bad name passes: %v\n%s", err, out)
	}
}

// What is on the main branch stays as it is: clients are made from it.
func TestBreaking(t *testing.T) {
	git, err := exec.Command("git", "rev-parse", "--path-format=absolute", "--git-common-dir").Output()
	if err != nil {
		t.Skipf("no repository: %v", err)
	}
	repository := strings.TrimSpace(string(git))
	if exec.Command("git", "rev-parse", "--verify", "-q", "refs/heads/main").Run() != nil {
		t.Skip("the repository has no branch main to compare with")
	}
	against := repository + "#branch=main,subdir=api"
	if out, err := buf(t, api, "breaking", "--against", against); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	absolute, err := filepath.Abs(api)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"bool dry_run = 1;", ""},
		{"bool dry_run = 1;", "string dry_run = 1;"},
		{"rpc Reload(ReloadRequest) returns (ReloadResponse);", ""},
	} {
		if out, err := buf(t, edited(t, c[0], c[1]), "breaking", "--against", absolute); err == nil {
			t.Errorf("%q for %q passes\n%s", c[1], c[0], out)
		}
	}
}
