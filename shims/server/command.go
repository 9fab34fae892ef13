package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// command drives a runtime program with runc's command line.
type command struct {
	binary  string
	root    string // --root: states of the namespace's containers
	systemd bool
	reaper  *reaper
}

// maxLog bounds how much of a runtime's log is read for its error, in bytes.
const maxLog = 1 << 20

// stdio are the files a process gets; nil is /dev/null.
type stdio struct{ in, out, err *os.File }

// run calls the program and waits. Its own words are read from its log file,
// because a container's streams may be its standard error.
func (c *command) run(ctx context.Context, io stdio, args ...string) error {
	logFile, err := os.CreateTemp(c.root, ".log-")
	if err != nil {
		return err
	}
	defer os.Remove(logFile.Name())
	defer logFile.Close()
	global := []string{"--root", c.root, "--log", logFile.Name(), "--log-format", "json"}
	if c.systemd {
		global = append(global, "--systemd-cgroup")
	}
	cmd := exec.Command(c.binary, append(global, args...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if io.in != nil {
		cmd.Stdin = io.in
	}
	if io.out != nil {
		cmd.Stdout = io.out
	}
	if io.err != nil {
		cmd.Stderr = io.err
	}
	pid, done, err := c.reaper.start(func() (int, error) {
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		return cmd.Process.Pid, nil
	})
	if err != nil {
		return fmt.Errorf("runtime %s: %w", c.binary, err)
	}
	defer cmd.Process.Release()
	select {
	case e := <-done:
		if e.code == 0 {
			return nil
		}
		return c.failure(args[0], logFile.Name(), e)
	case <-ctx.Done():
		unix.Kill(-pid, unix.SIGKILL)
		<-done
		return ctx.Err()
	}
}

// failure finds the last error in the runtime's log and gives it a class.
func (c *command) failure(verb, path string, e exit) error {
	data, _ := os.ReadFile(path)
	said := lastError(data[:min(len(data), maxLog)])
	if said == "" {
		said = fmt.Sprintf("exit status %d", e.code)
	}
	err := fmt.Errorf("%s %s: %s", filepath.Base(c.binary), verb, said)
	switch {
	case strings.Contains(said, "does not exist"), strings.Contains(said, "no such container"):
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	case strings.Contains(said, "not running"), strings.Contains(said, "already finished"), strings.Contains(said, "no such process"):
		return fmt.Errorf("process already finished: %w: %w", err, errdefs.ErrNotFound)
	}
	return err
}

func lastError(log []byte) string {
	said := ""
	for line := range bytes.Lines(log) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			said = entry.Msg
		}
	}
	return said
}

// output calls the program and returns what it prints.
func (c *command) output(ctx context.Context, args ...string) ([]byte, error) {
	out, err := os.CreateTemp(c.root, ".out-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if err := c.run(ctx, stdio{out: out}, args...); err != nil {
		return nil, err
	}
	return os.ReadFile(out.Name())
}

// spawn calls the program to make a process, which it leaves behind, and returns
// its pid and end.
func (c *command) spawn(ctx context.Context, io stdio, pidFile string, args ...string) (int, <-chan exit, error) {
	began := time.Now()
	if err := c.run(ctx, io, args...); err != nil {
		return 0, nil, err
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, nil, fmt.Errorf("pid file: %w", err)
	}
	return pid, c.reaper.adopt(pid, began), nil
}

func (c *command) delete(ctx context.Context, id string) error {
	err := c.run(ctx, stdio{}, "delete", "--force", id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *command) pids(ctx context.Context, id string) ([]uint32, error) {
	out, err := c.output(ctx, "ps", "--format", "json", id)
	if err != nil {
		return nil, err
	}
	var pids []uint32
	return pids, errors.Join(json.Unmarshal(out, &pids))
}
