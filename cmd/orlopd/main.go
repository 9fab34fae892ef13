// Orlopd is the daemon: it assembles what plugins/builtin lists as the config
// says, and runs until it is told to stop. Containers outlive it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/containerd/log"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/plugins/builtin"
	"github.com/orlop/orlop/plugins/config"
)

// defaultConfig is read where no other is named; it need not exist.
const defaultConfig = "/etc/orlop/config.toml"

type options struct {
	config, root, state, level string
	version                    bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "orlopd: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	for _, name := range []string{"c", "config"} {
		flag.StringVar(&o.config, name, "", "config file (default "+defaultConfig+")")
	}
	for _, name := range []string{"l", "log-level"} {
		flag.StringVar(&o.level, name, "", "trace, debug, info, warn or error")
	}
	flag.StringVar(&o.root, "root", "", "folder for what outlives a reboot")
	flag.StringVar(&o.state, "state", "", "folder for what ends with a reboot")
	flag.BoolVar(&o.version, "version", false, "print the version")
	flag.Parse()
	if o.version {
		fmt.Println("orlopd", version.Release, version.Revision())
		return nil
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; -help lists the flags", flag.Arg(0))
	}
	if os.Geteuid() != 0 {
		return errors.New("the daemon mounts file systems and starts containers: run it as root")
	}
	return serve(o)
}

func serve(o options) error {
	doc, err := load(o.config)
	if err != nil {
		return err
	}
	defaults := config.DefaultSettings()
	if o.root != "" {
		defaults.Root = o.root
	}
	if o.state != "" {
		defaults.State = o.state
	}
	var reg plugins.Registry
	var daemon builtin.Daemon
	builtin.Register(&reg, &daemon)
	plan, err := reg.Plan(doc, defaults)
	if err != nil {
		return fmt.Errorf("the config has mistakes:\n%w", err)
	}
	level := plan.Settings.Debug.Level
	if o.level != "" {
		level = o.level
	}
	if level != "" {
		if err := log.SetLevel(level); err != nil {
			return err
		}
	}
	return live(plan, &daemon)
}

func load(path string) (*config.Document, error) {
	if path != "" {
		return config.Load(path)
	}
	if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
		return config.Empty(), nil
	}
	return config.Load(defaultConfig)
}

// stopWait bounds the whole stop.
const stopWait = 20 * time.Second

func live(plan *plugins.Plan, daemon *builtin.Daemon) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	for _, dir := range []string{plan.Settings.Root, plan.Settings.State} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	began := time.Now()
	sys, err := plan.Start(context.Background())
	if err != nil {
		return err
	}
	daemon.System.Store(sys)
	log.L.Infof("orlopd %s is ready after %d ms", version.Release, time.Since(began).Milliseconds())
	for sig := range signals {
		if sig != syscall.SIGHUP {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	return sys.Close(ctx)
}
