// Package conformance runs suites of others against Orlop's programs.
package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is for one program; misc_props waits for a minute by design.
const patience = 150 * time.Second

// exception is a line of exceptions.txt.
type exception struct{ own, runc, reason string }

func readExceptions(t *testing.T) map[string]exception {
	b, err := os.ReadFile("exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]exception{}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), " | ")
		if strings.HasPrefix(line, "#") || len(f) != 4 {
			continue
		}
		out[f[0]] = exception{f[1], f[2], f[3]}
	}
	return out
}

// build makes the suite's programs and the command line in a directory.
func build(t *testing.T) (dir string) {
	dir = t.TempDir()
	run := func(wd string, args ...string) []byte {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = wd, append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Skipf("go %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return bytes.TrimSpace(out)
	}
	const module = "github.com/opencontainers/runtime-tools"
	run("suite", "build", "-o", dir+"/", module+"/validation/...", module+"/cmd/runtimetest")
	run(".", "build", "-o", filepath.Join(dir, "orlop-runtime"), "github.com/orlop/orlop/cmd/orlop-runtime")
	name := "rootfs-" + runtime.GOARCH + ".tar.gz"
	in, err := os.Open(filepath.Join(string(run("suite", "list", "-m", "-f", "{{.Dir}}", module)), name))
	if err != nil {
		t.Skip(err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	return dir
}

var notOK = regexp.MustCompile(`(?m)^not ok`)

// judge runs one program and says how it went: "clean", "N not ok" or "fails".
func judge(t *testing.T, dir, program, peer string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(dir, program))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "RUNTIME="+peer, "TMPDIR="+t.TempDir())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	n := len(notOK.FindAll(out.Bytes(), -1))
	switch {
	case n > 0:
		return fmt.Sprintf("%d not ok", n)
	case err != nil:
		t.Logf("%s: %v: %s", program, err, errs.String())
		return "fails"
	}
	return "clean"
}

// TestRuntimeValidation compares every program's outcome with the table. An
// exception that has become clean fails, too: the table tells the truth.
func TestRuntimeValidation(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root and minutes")
	}
	dir, exceptions := build(t), readExceptions(t)
	peer := os.Getenv("ORLOP_CONFORMANCE_RUNTIME") // to fill in the table's column
	if peer == "" {
		peer = filepath.Join(dir, "orlop-runtime")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	clean, all := 0, 0
	for _, e := range entries {
		name := e.Name()
		if name == "runtimetest" || name == "orlop-runtime" || strings.HasSuffix(name, ".gz") {
			continue
		}
		all++
		got, want := judge(t, dir, name, peer), "clean"
		x, known := exceptions[name]
		if known {
			want = x.own
		}
		if filepath.Base(peer) == "runc" && known {
			want = x.runc
		}
		if got == "clean" {
			clean++
		}
		if expected := strings.Split(want, " or "); !slices.Contains(expected, got) {
			t.Logf("%s: %s, the table says %s: once more, since some programs race with what they start", name, got, want)
			got = judge(t, dir, name, peer)
			if slices.Contains(expected, got) {
				continue
			}
			t.Errorf("%s: %s, the table says %s", name, got, want)
		}
	}
	t.Logf("%d of %d programs are clean", clean, all)
	if all < 58 {
		t.Errorf("only %d programs were built", all)
	}
}
