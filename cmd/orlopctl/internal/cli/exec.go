package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/cmd/orlopctl/internal/client"
	"github.com/orlop/orlop/services/spec"
)

// execProcess is the container's own process with another command, and what the
// flags change.
func (a *app) execProcess(ctx context.Context, c *client.Client, record *containers.Container, p *processFlags, args []string) (*specs.Process, error) {
	s, err := client.Spec(record)
	if err != nil {
		return nil, err
	}
	if s.Process == nil {
		return nil, fmt.Errorf("container %s has no process in its spec", record.ID)
	}
	process := *s.Process
	process.Args, process.Terminal, process.ConsoleSize = args, p.tty, nil
	if p.tty {
		if w, h, ok := client.TerminalSize(a.out); ok {
			process.ConsoleSize = &specs.Box{Width: w, Height: h}
		}
	}
	process.Env = mergeEnv(process.Env, p.variables())
	if p.cwd != "" {
		if !filepath.IsAbs(p.cwd) {
			return nil, fmt.Errorf("working folder %q is no absolute path", p.cwd)
		}
		process.Cwd = p.cwd
	}
	if p.user != "" {
		if process.User, err = userIn(ctx, c, record.ID, p.user); err != nil {
			return nil, err
		}
	}
	return &process, nil
}

// mergeEnv replaces and adds variables.
func mergeEnv(have, more []string) []string {
	out := append([]string(nil), have...)
	for _, v := range more {
		key, _, _ := strings.Cut(v, "=")
		found := false
		for i, old := range out {
			if strings.HasPrefix(old, key+"=") {
				out[i], found = v, true
			}
		}
		if !found {
			out = append(out, v)
		}
	}
	return out
}

// userIn resolves a user in a running container's root file system. Symlinks in
// it can't lead out.
func userIn(ctx context.Context, c *client.Client, id, user string) (specs.User, error) {
	if !spec.NeedsAccounts(user, nil) {
		return spec.User(user, nil, nil)
	}
	r, err := tasks.NewTasksClient(c.Conn()).Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return specs.User{}, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", r.Process.GetPid()))
	if err != nil {
		return specs.User{}, fmt.Errorf("root of container %s: %w", id, err)
	}
	defer root.Close()
	return spec.User(user, nil, root.FS())
}

// processName is the name of a process on this machine, "" if it is gone.
func processName(pid uint32) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
