package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/internal/pages"
	"github.com/orlop/orlop/internal/trust"
	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/builtin"
	"github.com/orlop/orlop/plugins/config"
)

// stopWait bounds the whole stop.
const stopWait = 20 * time.Second

func (p *program) serve() error {
	if os.Geteuid() != 0 {
		return errors.New("the daemon mounts file systems and starts containers: run it as root, or with --rootless")
	}
	reg, daemon := p.assemble()
	plan, err := daemon.Plan(reg)
	if err != nil {
		return err
	}
	if err := prepare(plan.Settings); err != nil {
		return err
	}
	if daemon.Ports, err = nested(plan.Settings.State); err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		log.L.Warn(w.String())
	}
	return live(plan, daemon)
}

// temporary gives the daemon a folder for temporary files that is its own: the next
// start sweeps what a crash left in it.
func temporary(s config.Settings) error {
	dir := s.Temp
	if dir == "" {
		dir = filepath.Join(s.Root, "tmp")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("temp: %w", err)
		}
	}
	return os.Setenv("TMPDIR", dir)
}

// prepare makes the process and its folders what the settings say.
func prepare(s config.Settings) error {
	if err := builtin.SetLog(s.Debug); err != nil {
		return err
	}
	for _, dir := range []struct{ key, path string }{{"root", s.Root}, {"state", s.State}, {"temp", s.Temp}, {"plugin_dir", s.PluginDir}} {
		if dir.path == "" {
			continue
		}
		if err := trust.Folder(dir.path); err != nil {
			return fmt.Errorf("%s: %w", dir.key, err)
		}
		if dir.key == "plugin_dir" {
			continue
		}
		if err := os.MkdirAll(dir.path, 0o711); err != nil {
			return fmt.Errorf("%s: %w", dir.key, err)
		}
	}
	if err := temporary(s); err != nil {
		return err
	}
	if s.Cgroup.Path != "" {
		log.L.Warnf("cgroup.path %s is not applied: start the daemon in that cgroup, as systemd does", s.Cgroup.Path)
	}
	if s.OOMScore != 0 {
		err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(s.OOMScore)), 0o644)
		if err != nil { // lowering it takes CAP_SYS_RESOURCE, which a nested daemon lacks
			log.L.WithError(err).Warnf("oom_score %d is not applied", s.OOMScore)
		}
	}
	return nil
}

func live(plan *plugins.Plan, daemon *builtin.Daemon) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	began := time.Now()
	sys, err := plan.Start(context.Background())
	if err != nil {
		return err
	}
	daemon.Started(sys)
	if err := pages.Forget(); err != nil {
		log.L.WithError(err).Debug("the pages of the start stay mapped")
	}
	log.L.Infof("orlopd %s is ready after %d ms", version.Release, time.Since(began).Milliseconds())
	for sig := range signals {
		if sig != syscall.SIGHUP {
			break
		}
		reload(daemon)
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	return sys.Close(ctx)
}

// reloadWait bounds what providers may do about a changed config.
const reloadWait = 10 * time.Second

// reload is what SIGHUP asks for; it says in the log what has become of it.
func reload(daemon *builtin.Daemon) {
	ctx, cancel := context.WithTimeout(context.Background(), reloadWait)
	defer cancel()
	changes, warnings, err := daemon.Reload(ctx)
	if err != nil {
		log.L.WithError(err).Error("reload")
		return
	}
	for _, w := range warnings {
		log.L.Warn(w)
	}
	for _, c := range changes {
		log.L.Infof("reload: %s", c)
	}
	log.L.Infof("reload: %d changes", len(changes))
}
