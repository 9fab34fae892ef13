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
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/mounts"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime"
	"github.com/orlop/orlop/runtime/cgroup"
)

// program drives a runtime program with runc's command line, for those who chose
// one (runc, crun, youki, runsc) instead of the embedded runtime.
type program struct {
	binary  string
	root    string // --root: states of the namespace's containers
	systemd bool
}

// maxLog bounds how much of a runtime's log is read for its error, in bytes.
const maxLog = 1 << 20

// run calls the program and waits. Its own words are read from its log file,
// because a container's streams may be its standard error.
func (p *program) run(ctx context.Context, io stdio, args ...string) error {
	logFile, err := os.CreateTemp(p.root, ".log-")
	if err != nil {
		return err
	}
	defer os.Remove(logFile.Name())
	defer logFile.Close()
	global := []string{"--root", p.root, "--log", logFile.Name(), "--log-format", "json"}
	if p.systemd {
		global = append(global, "--systemd-cgroup")
	}
	cmd := exec.CommandContext(ctx, p.binary, append(global, args...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	if io.in != nil {
		cmd.Stdin = io.in
	}
	if io.out != nil {
		cmd.Stdout = io.out
	}
	if io.err != nil {
		cmd.Stderr = io.err
	}
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ctx.Err() == nil {
		return p.failure(args[0], logFile.Name(), ended.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("runtime %s: %w", p.binary, err)
	}
	return nil
}

// failure finds the last error in the runtime's log and gives it a class.
func (p *program) failure(verb, path string, code int) error {
	data, _ := os.ReadFile(path)
	said := lastError(data[:min(len(data), maxLog)])
	if said == "" {
		said = fmt.Sprintf("exit status %d", code)
	}
	err := fmt.Errorf("%s %s: %s", filepath.Base(p.binary), verb, said)
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
func (p *program) output(ctx context.Context, args ...string) ([]byte, error) {
	out, err := os.CreateTemp(p.root, ".out-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	if err := p.run(ctx, stdio{out: out}, args...); err != nil {
		return nil, err
	}
	return os.ReadFile(out.Name())
}

// spawn calls the program to make a process, which it leaves to us.
func (p *program) spawn(ctx context.Context, pidFile string, terminal bool, io stdio, args ...string) (*child, error) {
	args = append([]string{args[0], "--pid-file", pidFile}, args[1:]...)
	var sock *consoleSocket
	if terminal {
		var err error
		if sock, err = newConsoleSocket(); err != nil {
			return nil, err
		}
		defer sock.close()
		args = append([]string{args[0], "--console-socket", sock.path()}, args[1:]...)
	}
	if err := p.run(ctx, io, args...); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	proc, err := os.FindProcess(pid) // holds a pidfd
	if err != nil {
		return nil, err
	}
	c := &child{id: pid, proc: proc}
	if terminal {
		c.tty, err = sock.receive()
	}
	return c, err
}

// child is a process that a runtime program left to us, its subreaper.
type child struct {
	id   int
	proc *os.Process
	tty  *os.File
}

func (c *child) pid() int          { return c.id }
func (c *child) console() *os.File { return c.tty }
func (c *child) release()          { c.proc.Release() }

func (c *child) kill(sig unix.Signal) error {
	if err := c.proc.Signal(sig); err != nil {
		return finished(err)
	}
	return nil
}

func (c *child) wait() exit {
	st, err := c.proc.Wait()
	if err != nil {
		return exit{code: 255, at: time.Now()}
	}
	ws := st.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return exit{code: 128 + uint32(ws.Signal()), at: time.Now()}
	}
	return exit{code: uint32(ws.ExitStatus()), at: time.Now()}
}

// programBox is a container of a runtime program.
type programBox struct {
	*child
	p          *program
	id, bundle string
	rootfs     string // where it is mounted
	mounted    bool
	group      *cgroup.Group
}

func (p *program) create(ctx context.Context, cr creation) (box, error) {
	if cr.checkpoint != "" {
		return nil, p.noCheckpoints()
	}
	b := &programBox{p: p, id: cr.id, bundle: cr.bundle}
	err := b.mountAll(cr.rootfs)
	if err != nil {
		return nil, errors.Join(err, b.unmount())
	}
	b.child, err = p.spawn(ctx, filepath.Join(cr.bundle, "init.pid"), cr.terminal, cr.std, "create", "--bundle", cr.bundle, cr.id)
	if err != nil {
		return nil, errors.Join(err, b.unmount())
	}
	// Found while the process lives; without it there are no statistics.
	if host, err := cgroup.Detect(); err == nil {
		b.group, _ = host.Of(b.child.id)
	}
	return b, nil
}

func (b *programBox) unmount() error {
	var err error
	if b.mounted {
		err = mounts.UnmountAll(b.rootfs, true)
	}
	return errors.Join(err, runtime.Displace(b.p.places(b.id)))
}

func (b *programBox) start(ctx context.Context) error  { return b.p.run(ctx, stdio{}, "start", b.id) }
func (b *programBox) pause(ctx context.Context) error  { return b.p.run(ctx, stdio{}, "pause", b.id) }
func (b *programBox) resume(ctx context.Context) error { return b.p.run(ctx, stdio{}, "resume", b.id) }

func (b *programBox) killAll(ctx context.Context, sig unix.Signal, all bool) error {
	args := []string{"kill"}
	if all && !userns.Nested() { // else it has no group, and its first process takes all along
		args = append(args, "--all")
	}
	return b.p.run(ctx, stdio{}, append(args, b.id, strconv.Itoa(int(sig)))...)
}

func (b *programBox) update(ctx context.Context, resources []byte) error {
	if !json.Valid(resources) {
		return fmt.Errorf("resources are not JSON: %w", errdefs.ErrInvalidArgument)
	}
	path := filepath.Join(b.bundle, "resources.json")
	if err := os.WriteFile(path, resources, 0o600); err != nil {
		return err
	}
	defer os.Remove(path)
	return b.p.run(ctx, stdio{}, "update", "--resources", path, b.id)
}

func (b *programBox) pids(ctx context.Context) ([]uint32, error) {
	out, err := b.p.output(ctx, "ps", "--format", "json", b.id)
	if err != nil {
		return nil, err
	}
	var pids []uint32
	return pids, json.Unmarshal(out, &pids)
}

func (p *program) noCheckpoints() error {
	return fmt.Errorf("checkpoints of containers of the runtime program %s: %w", p.binary, errdefs.ErrNotImplemented)
}

func (b *programBox) checkpoint(context.Context, string, *options.CheckpointOptions) error {
	return b.p.noCheckpoints()
}

func (b *programBox) stats() (any, error) {
	if b.group == nil {
		return nil, fmt.Errorf("the container's control group is not known: %w", errdefs.ErrNotFound)
	}
	st, err := b.group.Stats()
	if err != nil {
		return nil, err
	}
	if b.group.Unified {
		return metricsV2(st), nil
	}
	return metricsV1(st), nil
}

func (b *programBox) onOOM(f func()) (func(), error) {
	if b.group == nil {
		return func() {}, nil
	}
	events, err := b.group.OOMEvents()
	if err != nil {
		return nil, err
	}
	over, end, err := os.Pipe()
	if err != nil {
		events.File.Close()
		return nil, err
	}
	go func() {
		defer events.File.Close()
		defer over.Close()
		fds := []unix.PollFd{{Fd: int32(events.File.Fd()), Events: events.Ready}, {Fd: int32(over.Fd())}}
		for {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR || fds[1].Revents != 0 {
				return
			}
			err := events.Drain()
			f()
			if err != nil {
				return // the group is gone
			}
		}
	}()
	return sync.OnceFunc(func() { end.Close() }), nil
}

func (b *programBox) oomKills() uint64 {
	if b.group == nil {
		return 0
	}
	return b.group.OOMKills()
}

func (b *programBox) remove(ctx context.Context) error {
	err := b.p.run(ctx, stdio{}, "delete", "--force", b.id)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return b.unmount()
}

func (b *programBox) exec(ctx context.Context, id string, spec []byte, terminal bool, std stdio) (running, error) {
	process, pidFile := filepath.Join(b.bundle, id+".process.json"), filepath.Join(b.bundle, id+".pid")
	if err := os.WriteFile(process, spec, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(process)
	defer os.Remove(pidFile)
	c, err := b.p.spawn(ctx, pidFile, terminal, std, "exec", "--process", process, "--detach", b.id)
	if err != nil {
		return nil, err
	}
	return c, nil
}
