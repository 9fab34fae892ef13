// Command orlop-runtime is an OCI runtime with the command line that engines
// expect: it creates, starts, inspects and removes containers, each call doing
// one step and leaving the rest to the state directory.
//
// Exit status: 0 on success, 1 on an error of ours, and the container's own from
// run and exec. Errors go to stderr and, with --log, as lines of text or JSON to
// a file that engines read.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime"
)

// command is one verb of the command line.
type command struct {
	name, args, help string
	// least and most bound the number of arguments; most < 0 is no bound.
	least, most int
	flags       []option
	run         func(*call) (int, error)
}

// call is one invocation of a command.
type call struct {
	ctx     context.Context
	global  *flagSet
	flags   *flagSet
	args    []string
	runtime *runtime.Runtime
	log     *logFile
}

func commands() []command {
	return []command{
		createCommand, startCommand, runCommand, execCommand, killCommand, deleteCommand, stateCommand,
		listCommand, pauseCommand, resumeCommand, updateCommand, psCommand, eventsCommand, specCommand, featuresCommand,
		checkpointCommand, restoreCommand,
	}
}

var globalFlags = []option{
	{name: "root", value: "DIR", help: "directory of container states (default /run/orlop-runtime, in a user namespace below $XDG_RUNTIME_DIR)"},
	{name: "log", value: "FILE", help: "also write errors and warnings to this file"},
	{name: "log-format", value: "text|json", help: "format of the log file"},
	{name: "debug", help: "log more"},
	{name: "systemd-cgroup", help: "let systemd make control groups"},
	{name: "rootless", value: "BOOL", help: "accepted for compatibility; ignored"},
	{name: "criu", value: "PATH", help: "the program for checkpoints (default: criu on the PATH)"},
	{name: "cgroup-manager", value: "NAME", help: "cgroupfs (default) or systemd"},
	{name: "help", short: "h", help: "show this"},
	{name: "version", short: "v", help: "show the version"},
}

func main() {
	// A run of a few milliseconds has no use for a garbage collector.
	debug.SetGCPercent(400)
	os.Exit(realMain(os.Args[1:]))
}

func realMain(args []string) int {
	global := &flagSet{options: globalFlags}
	rest, err := global.parse(args, true)
	log := &logFile{path: global.get("log"), json: global.get("log-format") == "json"}
	switch {
	case err != nil:
		return log.fail(err)
	case global.is("version"):
		fmt.Printf("orlop-runtime version %s\nspec: %s\n", version(), specVersion)
		return 0
	case global.is("help") || len(rest) == 0 || rest[0] == "help":
		usage(os.Stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name == rest[0] {
			return invoke(c, global, rest[1:], log)
		}
	}
	return log.fail(fmt.Errorf("unknown command %q; orlop-runtime --help lists them", rest[0]))
}

func invoke(c command, global *flagSet, args []string, log *logFile) int {
	flags := &flagSet{options: append(c.flags[:len(c.flags):len(c.flags)], option{name: "help", short: "h", help: "show this"})}
	rest, err := flags.parse(args, c.name == "exec" || c.name == "ps")
	if err == nil && flags.is("help") {
		c.usage(os.Stdout)
		return 0
	}
	if err == nil && (len(rest) < c.least || c.most >= 0 && len(rest) > c.most) {
		err = fmt.Errorf("%s takes: %s", c.name, c.args)
	}
	if err != nil {
		return log.fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	k := &call{ctx: ctx, global: global, flags: flags, args: rest, log: log}
	code, err := c.run(k)
	if err != nil {
		n := log.fail(err)
		if c.name == "exec" && code > 0 {
			return code
		}
		return n
	}
	return code
}

// open opens the runtime. Only commands about containers do: spec and features
// work without rights.
func (k *call) open(detached bool) error {
	root := k.global.get("root")
	if root == "" {
		root = "/run/orlop-runtime"
		if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" && userns.Nested() { // /run is another's
			root = filepath.Join(run, "orlop-runtime")
		}
	}
	o := runtime.Options{
		SystemdCgroup: k.global.is("systemd-cgroup") || k.global.get("cgroup-manager") == "systemd",
		Detached:      detached,
		LeaveEnded:    detached || k.flags.is("detach"),
		NoNewKeyring:  k.flags.is("no-new-keyring"),
		Warn:          func(id, m string) { k.log.line("warning", m) },
	}
	r, err := runtime.Open(root, o)
	k.runtime = r
	return err
}

// container opens the runtime and the container that the first argument names.
func (k *call) container() (*runtime.Container, error) {
	if err := k.open(false); err != nil {
		return nil, err
	}
	return k.runtime.Load(k.args[0])
}

// logFile takes lines for engines.
type logFile struct {
	path string
	json bool
}

func (l *logFile) line(level, message string) {
	if l.path == "" {
		return
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339)
	if !l.json {
		fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, message)
		return
	}
	b, _ := json.Marshal(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{level, message, now})
	f.Write(append(b, '\n'))
}

// fail reports an error and returns the exit status.
func (l *logFile) fail(err error) int {
	if errors.Is(err, errSilent) {
		return 1
	}
	l.line("error", err.Error())
	fmt.Fprintln(os.Stderr, "orlop-runtime:", strings.TrimSpace(err.Error()))
	return 1
}

// errSilent is an error that has been reported.
var errSilent = errors.New("reported")

// forwardSignals sends what we get to a process, until stop is called.
func forwardSignals(send func(syscall.Signal) error, resize func()) (stop func()) {
	ch := make(chan os.Signal, 64)
	signal.Notify(ch)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-ch:
				switch sig := s.(syscall.Signal); sig {
				case syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPIPE:
				case syscall.SIGWINCH:
					resize()
				default:
					send(sig)
				}
			}
		}
	}()
	return func() { signal.Stop(ch); close(done) }
}
