package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limit bounds every command, so that a peer that hangs is seen.
const limit = 2 * time.Minute

// command runs a program to its end and returns how long it took. What it
// printed is told if it fails.
func command(env []string, args ...string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var errout tail
	cmd.Stderr = &errout
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return took, &failure{args: args, err: err, said: strings.TrimSpace(string(errout.b))}
	}
	return took, nil
}

// failure is a command that failed, and what it said.
type failure struct {
	args []string
	err  error
	said string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s: %v: %s", strings.Join(f.args, " "), f.err, f.said)
}

func (f *failure) Unwrap() error { return f.err }

// tail keeps the first bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), 2000-min(len(t.b), 2000))]...)
	return len(p), nil
}

// daemon is a process that was started here.
type daemon struct {
	cmd *exec.Cmd
	log string
}

// startDaemon starts a program and waits until something listens at address.
func startDaemon(log string, env []string, network, address string, args ...string) (*daemon, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := &daemon{cmd: exec.Command(args[0], args[1:]...), log: log}
	d.cmd.Stdout, d.cmd.Stderr = f, f
	d.cmd.Env = append(os.Environ(), env...)
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err := waitFor(network, address); err != nil {
		said, _ := os.ReadFile(log)
		return nil, errors.Join(fmt.Errorf("%s: %w\n%s", args[0], err, said), d.stop())
	}
	return d, nil
}

func waitFor(network, address string) error {
	for range 400 {
		if c, err := net.Dial(network, address); err == nil {
			return c.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens on %s", address)
}

// stop ends the daemon, by force if it takes longer than ten seconds.
func (d *daemon) stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { d.cmd.Process.Kill() })
	defer timer.Stop()
	d.cmd.Wait()
	return nil
}

// freePort is a port of loopback that nobody uses now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// pss is a process's proportional share of memory, in MiB.
func pss(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no Pss", pid)
}

// holders are the processes of a program (by the start of its name) whose
// command line, environment or folder is below dir.
func holders(program, dir string) []int {
	var found []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		exe, _ := os.Readlink(p + "/exe")
		if !strings.HasPrefix(filepath.Base(exe), program) {
			continue
		}
		line, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		cwd, _ := os.Readlink(p + "/cwd")
		if bytes.Contains(line, []byte(dir)) || bytes.Contains(env, []byte(dir)) || strings.HasPrefix(cwd, dir) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			found = append(found, pid)
		}
	}
	return found
}

// disk is a new ext4 in a file, mounted.
type disk struct{ image, dir string }

func newDisk(dir string) (*disk, error) {
	d := &disk{image: dir + ".ext4", dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Direct I/O, or every page would be cached and written twice. The loop device
	// goes when it isn't mounted any more.
	attach := `dev=$(losetup --find --show --direct-io=on "$0") && mount "$dev" "$1"; rc=$?; losetup -d "$dev"; exit $rc`
	for _, args := range [][]string{
		{"truncate", "-s", "8G", d.image},
		{"mkfs.ext4", "-q", "-F", d.image},
		{"sh", "-c", attach, d.image, dir},
	} {
		if _, err := command(nil, args...); err != nil {
			return nil, errors.Join(err, os.RemoveAll(d.image))
		}
	}
	return d, nil
}

// remove takes away all mounts below, then the disk.
func (d *disk) remove() error {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && (f[1] == d.dir || strings.HasPrefix(f[1], d.dir+"/")) {
			if err := syscall.Unmount(f[1], syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", f[1], err)
			}
		}
	}
	return os.Remove(d.image)
}
