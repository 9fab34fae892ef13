package criu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstError(t *testing.T) {
	log := `(00.01) Warn  (criu/kerndat.c:1285): something
(00.18) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.59) Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=0 path=/dev/null
(00.60) Error (criu/cr-dump.c:1681): Dump files (pid: 20595) failed with -1
`
	if got, want := firstError(strings.NewReader(log)), "Can't lookup mount=24 for fd=0 path=/dev/null"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := firstError(strings.NewReader("all is well\n")); got != "" {
		t.Errorf("an error was found: %q", got)
	}
}

func TestMissing(t *testing.T) {
	c := &Call{Program: filepath.Join(t.TempDir(), "criu")}
	if err := c.Dump(); !errors.Is(err, ErrMissing) {
		t.Errorf("got %v", err)
	}
}

// A program in CRIU's place tells what it was called with.
func TestCall(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "criu")
	script := "#!/bin/sh\necho \"$@\" > " + dir + "/args\ncat <&4 > " + dir + "/got\necho '(0) Error (a.c:1): no luck' > " + dir + "/restore.log\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "in")
	if err := os.WriteFile(name, []byte("given"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	c := &Call{Program: program, Image: "img", Work: dir}
	c.External("mnt[/a]:/b")
	c.Inherit(in, "pipe:[1]")
	c.Inherit(in, "pipe:[2]")
	err = c.Restore()
	if err == nil || !strings.Contains(err.Error(), "criu restore: no luck") {
		t.Errorf("got %v", err)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	want := "restore --images-dir img --work-dir " + dir + " --log-file restore.log -v2 --external mnt[/a]:/b --inherit-fd fd[3]:pipe:[1] --inherit-fd fd[4]:pipe:[2]\n"
	if string(args) != want {
		t.Errorf("called with %s want %s", args, want)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "got")); string(got) != "given" {
		t.Errorf("descriptor 4 had %q", got)
	}
}
