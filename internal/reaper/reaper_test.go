package reaper

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// write puts the program into a file.
func write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, Program(), 0o555); err != nil {
		t.Fatal(err)
	}
	return path
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestFile(t *testing.T) {
	f, err := elf.NewFile(bytes.NewReader(Program()))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || len(f.Progs) != 2 || f.Progs[0].Flags != elf.PF_R|elf.PF_X || f.Progs[1].Flags != elf.PF_R|elf.PF_W {
		t.Fatalf("%+v", f.FileHeader)
	}
	if n := len(Program()); n > 1500 {
		t.Errorf("%d bytes", n)
	}
}

func TestCommands(t *testing.T) {
	path := write(t)
	dir := t.TempDir()
	for _, f := range []struct {
		name string
		mode os.FileMode
	}{{"tool", 0o755}, {"denied", 0o644}, {"broken", 0o755}} {
		text := "#!/bin/sh\necho tool $#: \"$*\"\n"
		if f.name == "broken" {
			text = "\x7fELF no more"
		}
		if err := os.WriteFile(filepath.Join(dir, f.name), []byte(text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	paths := "PATH=/nosuch:" + dir + "/tool:" + strings.Repeat("x", 5000) + "::" + dir + ":/usr/bin:/bin"
	for _, tt := range []struct {
		args string
		env  string
		code int
		out  string
	}{
		{"/bin/sh -c true", "", 0, ""},
		{"-- /bin/sh -c exit$IFS$((3+4))", "", 7, ""},
		{"-- sh -c kill$IFS-9$IFS$$", paths, 137, ""},
		{"-- sh -c kill$IFS-TERM$IFS$$", paths, 143, ""},
		{"tool a -- b", paths, 0, "tool 3: a -- b\n"},
		{"-- tool", paths, 0, "tool 0: \n"},
		{"-- tool", "XPATH=" + dir, 127, "tool: not found\n"},
		{"-- tool", "PATH=", 127, "tool: not found\n"},
		{"-- nosuch", paths, 127, "nosuch: not found\n"},
		{"-- denied", paths, 126, "denied: cannot be run\n"},
		{"-- broken", paths, 126, "broken: cannot be run\n"},
		{"-- /bin/nosuch", paths, 127, "/bin/nosuch: not found\n"},
		{"-- " + dir, paths, 126, dir + ": cannot be run\n"},
		{"-- " + strings.Repeat("n", 256), paths, 127, strings.Repeat("n", 256) + ": not found\n"},
		{"--", paths, 127, ""},
		{"", paths, 127, ""},
	} {
		cmd := exec.Command(path, strings.Fields(tt.args)...)
		cmd.Env = []string{"A=b", tt.env}
		out, err := cmd.CombinedOutput()
		if code := exitCode(err); code != tt.code || string(out) != tt.out {
			t.Errorf("%q: code %d, output %q; want %d, %q", tt.args, code, out, tt.code, tt.out)
		}
	}
}

// start runs the program as the first process of a pid namespace.
func start(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a pid namespace")
	}
	cmd := exec.Command(write(t), "--", "/bin/sh", "-c", script)
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

func TestSignals(t *testing.T) {
	cmd, out := start(t, `for s in HUP INT USR1 WINCH ABRT; do trap "echo $s" $s; done; trap 'echo TERM; exit 5' TERM; echo ready; while :; do sleep 0.05; done`)
	line(t, out)
	for name, sig := range map[string]unix.Signal{"HUP": unix.SIGHUP, "INT": unix.SIGINT, "USR1": unix.SIGUSR1, "WINCH": unix.SIGWINCH, "ABRT": unix.SIGABRT} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := line(t, out); got != name {
			t.Errorf("%s arrived as %s", name, got)
		}
	}
	cmd.Process.Signal(unix.SIGTERM)
	line(t, out)
	if code := exitCode(cmd.Wait()); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
}

// Orphans are collected, and the program ends when its command does, whatever else runs.
func TestOrphans(t *testing.T) {
	cmd, out := start(t, `for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 & exec true) & done; wait; (exec sleep 1000 > /dev/null &); echo ready; read line; exit 9`)
	line(t, out)
	// Standard input is /dev/null: the command ends at once, with its orphan still there.
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if code := exitCode(err); code != 9 {
			t.Errorf("exit code %d, want 9", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the program does not end with its command")
	}
}

func TestZombies(t *testing.T) {
	cmd, out := start(t, `for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 & exec true) & done; wait; echo ready; sleep 1000`)
	line(t, out)
	for range 100 {
		if zombies(t, cmd.Process.Pid) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("zombies are left")
}

func zombies(t *testing.T, parent int) (n int) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(children)) {
		stat, _ := os.ReadFile("/proc/" + pid + "/stat")
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "Z") {
			n++
		}
	}
	return n
}

// The program takes no more memory than its stack and page tables.
func TestMemory(t *testing.T) {
	cmd, out := start(t, "echo ready; sleep 1000")
	line(t, out)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(maps)) {
		var kib int
		if n, _ := fmt.Sscanf(text, "Pss: %d kB", &kib); n == 1 {
			t.Logf("PSS %d KiB", kib)
			if kib > 32 {
				t.Errorf("PSS is %d KiB", kib)
			}
		}
	}
}

// The other architecture's program is run by an emulator, where there is one.
func TestOtherArchitecture(t *testing.T) {
	other, emulator := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == other {
		other, emulator = "amd64", "qemu-x86_64-static"
	}
	if _, err := exec.LookPath(emulator); err != nil {
		t.Skipf("needs %s", emulator)
	}
	bin := filepath.Join(t.TempDir(), "test")
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Env = append(os.Environ(), "GOARCH="+other, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path := filepath.Join(t.TempDir(), "init")
	dump := exec.Command(emulator, bin, "-test.run", "TestDump")
	dump.Env = append(os.Environ(), "REAPER_DUMP="+path)
	if out, err := dump.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, tt := range []struct {
		args, env string
		code      int
		out       string
	}{
		{"-- sh -c exit$IFS$((3+4))", "PATH=/nosuch::/usr/bin:/bin", 7, ""},
		{"sh -c kill$IFS-TERM$IFS$$", "PATH=/nosuch:/bin", 143, ""},
		{"/bin/sh -c echo", "", 0, "\n"},
		{"-- nosuch", "PATH=/bin:/usr/bin", 127, "nosuch: not found\n"},
		{"-- /etc/passwd", "", 126, "/etc/passwd: cannot be run\n"},
		{"--", "", 127, ""},
	} {
		cmd := exec.Command(emulator, append([]string{path}, strings.Fields(tt.args)...)...)
		cmd.Env = []string{"A=b", tt.env}
		out, err := cmd.CombinedOutput()
		if code := exitCode(err); code != tt.code || string(out) != tt.out {
			t.Errorf("%q: code %d, output %q; want %d, %q", tt.args, code, out, tt.code, tt.out)
		}
	}
}

// TestDump writes the program for TestOtherArchitecture.
func TestDump(t *testing.T) {
	path := os.Getenv("REAPER_DUMP")
	if path == "" {
		t.Skip("part of another test")
	}
	if err := os.WriteFile(path, Program(), 0o555); err != nil {
		t.Fatal(err)
	}
}
