package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime"
)

var execCommand = command{name: "exec", args: "ID COMMAND [ARGUMENT…]", help: "run a further program in a container", least: 1, most: -1,
	flags: []option{
		{name: "console-socket", value: "PATH", help: "socket that takes the terminal"},
		{name: "pidfd-socket", value: "PATH", help: "socket that takes a pidfd of the process"},
		{name: "cwd", value: "DIR", help: "working directory"},
		{name: "env", short: "e", value: "NAME=VALUE", help: "add to the environment"},
		{name: "tty", short: "t", help: "give it a terminal"},
		{name: "user", short: "u", value: "UID[:GID]", help: "user and group"},
		{name: "additional-gids", short: "g", value: "GID", help: "additional group"},
		{name: "process", short: "p", value: "FILE", help: "process section to use, as JSON"},
		{name: "detach", short: "d", help: "don't wait for it"},
		{name: "pid-file", value: "FILE", help: "file that gets the process id"},
		{name: "process-label", value: "LABEL", help: "SELinux label"},
		{name: "apparmor", value: "PROFILE", help: "AppArmor profile"},
		{name: "no-new-privs", help: "set no_new_privs"},
		{name: "cap", short: "c", value: "CAP", help: "add a capability"},
		{name: "preserve-fds", value: "N", help: "hand on N descriptors after stderr"},
		{name: "cgroup", value: "PATH", help: "not supported"},
		{name: "ignore-paused", help: "accepted for compatibility; ignored"},
	}, run: execute}

func execute(k *call) (int, error) {
	const failed = 255 // as engines expect of exec
	c, err := k.container()
	if err != nil {
		return failed, err
	}
	p, err := k.process(c)
	if err != nil {
		return failed, err
	}
	wait := !k.flags.is("detach")
	if err := checkConsole(p.Terminal, wait, k.flags.get("console-socket")); err != nil {
		return failed, err
	}
	extra, env, err := k.extraFiles()
	if err != nil {
		return failed, err
	}
	p.Env = append(p.Env, env...)
	proc, err := c.Exec(k.ctx, runtime.ExecConfig{Process: p, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: extra, PidFile: k.flags.get("pid-file")})
	if err != nil {
		return failed, err
	}
	if path := k.flags.get("console-socket"); path != "" {
		if err := sendFile(path, "/dev/ptmx", proc.Console()); err != nil {
			proc.Kill(syscall.SIGKILL)
			return failed, fmt.Errorf("console socket: %w", err)
		}
	}
	if path := k.flags.get("pidfd-socket"); path != "" {
		if err := sendFile(path, "pidfd", proc.PidFD()); err != nil {
			proc.Kill(syscall.SIGKILL)
			return failed, fmt.Errorf("pidfd socket: %w", err)
		}
	}
	if !wait {
		return 0, nil
	}
	restore := func() {}
	if proc.Console() != nil {
		if restore, err = relay(proc.Console()); err != nil {
			return failed, err
		}
	}
	stop := forwardSignals(proc.Kill, func() {
		if proc.Console() != nil {
			copySize(proc.Console())
		}
	})
	defer stop()
	st, err := proc.Wait(k.ctx)
	restore()
	return st.Code, err
}

// process makes the process section: from a file, or the container's own with
// changes from flags.
func (k *call) process(c *runtime.Container) (*specs.Process, error) {
	if file := k.flags.get("process"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if k.flags.is("tty") {
			p.Terminal = true
		}
		return p, nil
	}
	if len(k.args) < 2 {
		return nil, errors.New("process args cannot be empty")
	}
	own := c.Process()
	if own == nil {
		return nil, errors.New("the container has no process section")
	}
	p := *own
	p.Args = k.args[1:]
	p.Terminal = k.flags.is("tty")
	p.ConsoleSize = nil
	if v := k.flags.get("cwd"); v != "" {
		p.Cwd = v
	}
	if v := k.flags.get("process-label"); v != "" {
		p.SelinuxLabel = v
	}
	if v := k.flags.get("apparmor"); v != "" {
		p.ApparmorProfile = v
	}
	if k.flags.has("no-new-privs") {
		p.NoNewPrivileges = k.flags.is("no-new-privs")
	}
	p.Env = append(slices.Clone(p.Env), k.flags.list("env")...)
	p.Capabilities = withCapabilities(p.Capabilities, k.flags.list("cap"))
	return &p, k.user(&p)
}

func withCapabilities(c *specs.LinuxCapabilities, more []string) *specs.LinuxCapabilities {
	if len(more) == 0 {
		return c
	}
	out := specs.LinuxCapabilities{}
	if c != nil {
		out = *c
	}
	for _, set := range []*[]string{&out.Bounding, &out.Effective, &out.Permitted} {
		*set = append(slices.Clone(*set), more...)
	}
	return &out
}

// user reads --user and --additional-gids.
func (k *call) user(p *specs.Process) error {
	if v := k.flags.get("user"); v != "" {
		uid, gid, both := strings.Cut(v, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("--user %s: not a number", v)
		}
		p.User.UID = uint32(n)
		if both {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("--user %s: not a number", v)
			}
			p.User.GID = uint32(n)
		}
	}
	for _, v := range k.flags.list("additional-gids") {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return fmt.Errorf("--additional-gids %s: not a number", v)
		}
		p.User.AdditionalGids = append(slices.Clone(p.User.AdditionalGids), uint32(n))
	}
	return nil
}
