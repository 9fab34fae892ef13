package runtime_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

// start makes and starts a container that sleeps.
func start(t testing.TB, r *runtime.Runtime, bundle string, s *specs.Spec) *runtime.Container {
	t.Helper()
	ctx := context.Background()
	c, err := r.Create(ctx, runtime.CreateConfig{ID: testID(t), Bundle: bundle, Spec: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Delete(ctx, true) })
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// inside runs a program in a container and returns its output and exit code.
func inside(t testing.TB, c *runtime.Container, p *specs.Process) (string, int) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	proc, err := c.Exec(context.Background(), runtime.ExecConfig{Process: p, Stdout: out, Stderr: out})
	out.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	b, _ := io.ReadAll(in)
	st, err := proc.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return string(b), st.Code
}

func process(args ...string) *specs.Process {
	p := newSpec(args...).Process
	return p
}

func TestExec(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	c := start(t, r, bundle, newSpec("sleep", "60"))
	out, code := inside(t, c, process("sh", "-c", "ps; echo $HOME; cat /proc/self/cgroup; ls /proc/self/fd; exit 3"))
	if code != 3 || !strings.Contains(out, "sleep 60") || !strings.Contains(out, "/root\n") {
		t.Errorf("exit %d: %s", code, out)
	}
	pids, err := c.Pids()
	if err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
}

func TestMissingPrograms(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	os.WriteFile(filepath.Join(bundle, "rootfs/bin/text"), []byte("x"), 0o644)
	c := start(t, r, bundle, newSpec("sleep", "60"))
	for _, k := range []struct {
		name string
		want error
		text string
	}{
		{"nothing", runtime.ErrCommandNotFound, `exec: "nothing": executable file not found in $PATH`},
		{"/nothing", runtime.ErrCommandNotFound, "no such file or directory"},
		{"/bin/text", runtime.ErrCommandNotExecutable, "permission denied"},
		{"/bin", runtime.ErrCommandNotExecutable, "permission denied"},
	} {
		_, err := c.Exec(context.Background(), runtime.ExecConfig{Process: process(k.name)})
		if !errors.Is(err, k.want) || !strings.Contains(err.Error(), k.text) {
			t.Errorf("exec %s: %v", k.name, err)
		}
		_, err = r.Create(context.Background(), runtime.CreateConfig{ID: testID(t) + "-2", Bundle: bundle, Spec: newSpec(k.name)})
		if k.name == "/bin" {
			c2, _ := r.Load(testID(t) + "-2")
			err = c2.Start(context.Background())
			c2.Delete(context.Background(), true)
		}
		if !errors.Is(err, k.want) || !strings.Contains(err.Error(), k.text) {
			t.Errorf("create %s: %v", k.name, err)
		}
	}
	if list, _ := r.List(); len(list) != 1 {
		t.Errorf("%d containers are left", len(list))
	}
}

func TestTerminal(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	s := newSpec("sh", "-c", "tty; stat -c %t:%T /dev/console; read x; echo got $x")
	s.Process.Terminal = true
	s.Process.ConsoleSize = &specs.Box{Height: 30, Width: 100}
	c := start(t, r, bundle, s)
	read := bufio.NewReader(c.Console())
	line := func() string { l, _ := read.ReadString('\n'); return strings.TrimSpace(l) }
	if l := line(); l != "/dev/pts/0" {
		t.Errorf("tty %q", l)
	}
	line()
	c.Console().Write([]byte("word\n"))
	line()
	if l := line(); l != "got word" {
		t.Errorf("echo %q", l)
	}
	if ws, err := unix.IoctlGetWinsize(int(c.Console().Fd()), unix.TIOCGWINSZ); err != nil || ws.Row != 30 || ws.Col != 100 {
		t.Errorf("size %+v %v", ws, err)
	}
	c.Wait(context.Background())
}

func TestExecTerminal(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	c := start(t, r, bundle, newSpec("sleep", "60"))
	p := process("sh", "-c", "tty; read x; echo got $x")
	p.Terminal = true
	proc, err := c.Exec(context.Background(), runtime.ExecConfig{Process: p})
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	if err := proc.Resize(10, 20); err != nil {
		t.Error(err)
	}
	proc.Console().Write([]byte("word\n"))
	b, _ := io.ReadAll(proc.Console()) // ends with EIO
	if !strings.Contains(string(b), "/dev/pts/0") || !strings.Contains(string(b), "got word") {
		t.Errorf("%q", b)
	}
	proc.Wait(context.Background())
}

func TestAdoption(t *testing.T) {
	r, bundle := openRuntime(t), newBundle(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := start(t, r, bundle, newSpec("sh", "-c", "sleep 0.3; exit 5"))
	r2, err := runtime.Open(filepath.Dir(r.StateDir(c.ID)), runtime.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	c2, err := r2.Load(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c2.Status() != runtime.Running {
		t.Errorf("status %s", c2.Status())
	}
	known := false
	for _, x := range []*runtime.Container{c, c2} {
		st, err := x.Wait(ctx)
		if err != nil || !endedWith(st, 5) {
			t.Errorf("%+v %v", st, err)
		}
		known = known || st.Known
	}
	if !known {
		t.Error("neither knows the exit code of our own child")
	}
}
