package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/internal/hostport"
	"github.com/orlop/orlop/internal/trust"
)

// A daemon of an ordinary user is two processes. The one that was started stays where it
// is, as the user: it makes namespaces, in which the user is root, runs the daemon proper
// in them, passes signals on, and opens sockets of the host for published ports. The
// namespaces are held by a third that only sleeps, so that containers keep them whatever
// becomes of the two.

// rootlessFolders are where an ordinary user's daemon keeps its files.
func (p *program) rootlessFolders() error {
	home, err := os.UserHomeDir()
	if err != nil {
		return err
	}
	p.settings.Root = filepath.Join(orElse(os.Getenv("XDG_DATA_HOME"), filepath.Join(home, ".local", "share")), "orlop")
	p.defaultConfig = filepath.Join(orElse(os.Getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config")), "orlop", "config.toml")
	p.root = orElse(p.root, p.settings.Root)
	if p.state == "" {
		run := os.Getenv("XDG_RUNTIME_DIR")
		if run == "" {
			return errors.New("XDG_RUNTIME_DIR is not set: log in by a session that sets it, or name a folder of yours by --state")
		}
		p.state = filepath.Join(run, "orlop")
	}
	for _, dir := range []*string{&p.root, &p.state} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
		if err := trust.Folder(*dir); err != nil {
			return err
		}
		if err := os.MkdirAll(*dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// rootlessDaemon runs a daemon as an ordinary user until it ends.
func (p *program) rootlessDaemon() error {
	if os.Geteuid() == 0 {
		return errors.New("--rootless is for ordinary users: root runs the daemon without")
	}
	if err := p.rootlessFolders(); err != nil {
		return err
	}
	h, err := openHolder(p.state)
	if err != nil {
		return err
	}
	agent, client, err := hostport.Pair()
	if err != nil {
		return err
	}
	defer agent.Close()
	cmd, err := p.nestedCommand(h, client)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("enter the daemon's namespaces: %w", err)
	}
	client.Close() // the daemon's end of it tells us when it goes
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	go func() {
		if err := hostport.Serve(agent); err != nil {
			log.L.WithError(err).Warn("published ports")
		}
	}()
	err = cmd.Wait()
	h.releaseUnused()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return fmt.Errorf("the daemon has ended: %s", ended)
	}
	return err
}

// rootlessEnv tells the daemon that it is in a user's namespaces; its value is the
// number of the descriptor that leads to the agent of ports.
const rootlessEnv = "ORLOP_ROOTLESS"

// nestedCommand runs the daemon in the namespaces.
func (p *program) nestedCommand(h *holder, client *os.File) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"--preserve-credentials", "--user", "--mount", "--net", "--target", fmt.Sprint(h.PID), "--", exe, "--root", p.root, "--state", p.state}
	config := p.config
	if _, err := os.Stat(p.defaultConfig); config == "" && err == nil {
		config = p.defaultConfig
	}
	for flag, value := range map[string]string{"--config": config, "--address": p.address, "--log-level": p.level} {
		if value == "" {
			continue
		}
		if flag == "--config" {
			if value, err = filepath.Abs(value); err != nil {
				return nil, err
			}
		}
		args = append(args, flag, value)
	}
	cmd := exec.Command("nsenter", args...)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.ExtraFiles = []*os.File{client}
	cmd.Env = append(os.Environ(), rootlessEnv+"=3")
	return cmd, nil
}

// nested makes a daemon in a user's namespaces ready, and returns the way to ports of the
// host; nil for a daemon that isn't in such.
func nested(state string) (*hostport.Client, error) {
	if os.Getenv(rootlessEnv) == "" {
		return nil, nil
	}
	os.Unsetenv(rootlessEnv)
	const fd = 3
	unix.CloseOnExec(fd)
	go func() { // without the agent there is no way out: the user has killed it
		fds := []unix.PollFd{{Fd: fd}}
		for fds[0].Revents == 0 {
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				return
			}
		}
		_ = unix.Kill(os.Getpid(), unix.SIGTERM)
	}()
	if err := upLoopback(); err != nil {
		return nil, fmt.Errorf("loopback: %w", err)
	}
	if err := useResolver(filepath.Join(state, resolverFile)); err != nil {
		log.L.WithError(err).Warn("names are resolved as the host does it, which may not work from here")
	}
	return hostport.NewClient(os.NewFile(fd, "agent of ports")), nil
}

// useResolver shows a file in the place of /etc/resolv.conf, unless it does already.
func useResolver(file string) error {
	ours, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	if shown, err := os.Stat(target); err == nil && os.SameFile(ours, shown) {
		return nil
	}
	return unix.Mount(file, target, "", unix.MS_BIND, "")
}
