package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/orlop/orlop/runtime"
	"golang.org/x/sys/unix"
)

var killCommand = command{name: "kill", args: "ID [SIGNAL]", help: "send a signal (default TERM)", least: 1, most: 2,
	flags: []option{{name: "all", short: "a", help: "to all processes of the container"}},
	run: func(k *call) (int, error) {
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		name := "TERM"
		if len(k.args) > 1 {
			name = k.args[1]
		}
		sig, err := parseSignal(name)
		if err != nil {
			return 1, err
		}
		return 0, c.Kill(k.ctx, sig, k.flags.is("all"))
	}}

func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > 64 {
			return 0, fmt.Errorf("signal %d does not exist", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("signal %q does not exist", s)
}

var deleteCommand = command{name: "delete", args: "ID", help: "remove what is left of a container", least: 1, most: 1,
	flags: []option{{name: "force", short: "f", help: "kill it first; succeed if it does not exist"}},
	run: func(k *call) (int, error) {
		force := k.flags.is("force")
		c, err := k.container()
		if errors.Is(err, runtime.ErrNotFound) && force {
			return 0, os.RemoveAll(k.runtime.StateDir(k.args[0]))
		}
		if err != nil {
			return 1, err
		}
		return 0, c.Delete(k.ctx, force)
	}}

var stateCommand = command{name: "state", args: "ID", help: "show a container's state as JSON", least: 1, most: 1,
	run: func(k *call) (int, error) {
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		return 0, printJSON(k.describe(c), true)
	}}

// description is the state with what engines like to see beside it.
type description struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func (k *call) describe(c *runtime.Container) description {
	s := c.State()
	return description{Version: s.Version, ID: s.ID, Pid: s.Pid, Status: string(s.Status), Bundle: s.Bundle,
		Rootfs: c.Rootfs(), Created: c.CreatedAt().UTC(), Annotations: s.Annotations}
}

func printJSON(v any, indent bool) error {
	e := json.NewEncoder(os.Stdout)
	if indent {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

var listCommand = command{name: "list", help: "list containers", most: 0,
	flags: []option{
		{name: "format", short: "f", value: "table|json", help: "format"},
		{name: "quiet", short: "q", help: "only ids"},
	},
	run: func(k *call) (int, error) {
		if err := k.open(false); err != nil {
			return 1, err
		}
		list, err := k.runtime.List()
		rows := make([]description, 0, len(list))
		for _, c := range list {
			rows = append(rows, k.describe(c))
		}
		switch {
		case k.flags.is("quiet"):
			for _, r := range rows {
				fmt.Println(r.ID)
			}
		case k.flags.get("format") == "json":
			printJSON(rows, false)
		default:
			w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", r.ID, r.Pid, r.Status, r.Bundle, r.Created.Format(time.RFC3339Nano))
			}
			w.Flush()
		}
		return 0, err
	}}

var pauseCommand = command{name: "pause", args: "ID", help: "stop all processes of a container", least: 1, most: 1,
	run: func(k *call) (int, error) {
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		return 0, c.Pause(k.ctx)
	}}

var resumeCommand = command{name: "resume", args: "ID", help: "let a paused container go on", least: 1, most: 1,
	run: func(k *call) (int, error) {
		c, err := k.container()
		if err != nil {
			return 1, err
		}
		return 0, c.Resume(k.ctx)
	}}

var psCommand = command{name: "ps", args: "ID [OPTIONS OF ps]", help: "list a container's processes", least: 1, most: -1,
	flags: []option{{name: "format", short: "f", value: "table|json", help: "format"}}, run: processes}

func processes(k *call) (int, error) {
	c, err := k.container()
	if err != nil {
		return 1, err
	}
	pids, err := c.Pids()
	if err != nil {
		return 1, err
	}
	if k.flags.get("format") == "json" {
		return 0, printJSON(pids, false)
	}
	args := k.args[1:]
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.Command("ps", args...).Output()
	if err != nil {
		return 1, fmt.Errorf("ps: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return 1, errors.New("ps shows no PID column")
	}
	fmt.Println(lines[0])
	for _, l := range lines[1:] {
		f := strings.Fields(l)
		if column >= len(f) {
			continue
		}
		if pid, err := strconv.Atoi(f[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Println(l)
		}
	}
	return 0, nil
}
