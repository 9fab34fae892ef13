package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxHookOutput bounds what is kept of a hook's complaints.
const maxHookOutput = 4096

// runHook runs one hook in our own namespaces.
func runHook(ctx context.Context, h specs.Hook, state []byte) error {
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, h.Path)
	cmd.Args = h.Args
	if len(cmd.Args) == 0 {
		cmd.Args = []string{h.Path}
	}
	cmd.Env = h.Env
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Stdin = bytes.NewReader(state)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&out}, &limited{&out}
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hook %s: %w: %s", h.Path, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// limited keeps the beginning of what is written.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxHookOutput - l.b.Len(); room > 0 {
		l.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// hookState is the state that a hook reads.
func (c *Container) hookState(status specs.ContainerState) []byte {
	b, _ := json.Marshal(&specs.State{Version: specs.Version, ID: c.ID, Status: status, Pid: c.rec.PID,
		Bundle: c.rec.Bundle, Annotations: c.rec.Annotations})
	return b
}

// earlyHooks runs the hooks of creation, while the child waits.
func (cr *creation) earlyHooks(ctx context.Context) error {
	h, state := cr.b.spec.Hooks, cr.c.hookState(specs.StateCreating)
	for _, hook := range append(h.Prestart[:len(h.Prestart):len(h.Prestart)], h.CreateRuntime...) {
		if err := runHook(ctx, hook, state); err != nil {
			return err
		}
	}
	for _, hook := range h.CreateContainer {
		if err := cr.c.runInside(ctx, hook, state); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) startHooks(ctx context.Context) error {
	if c.rec.Hooks == nil {
		return nil
	}
	state := c.hookState(specs.StateCreated)
	for _, hook := range c.rec.Hooks.StartContainer {
		if err := c.runInside(ctx, hook, state); err != nil {
			c.end(ctx)
			return err
		}
	}
	return nil
}

// postStart and postStop hooks only warn when they fail, as the specification asks.
func (c *Container) postStart(ctx context.Context) {
	if c.rec.Hooks != nil {
		c.late(ctx, c.rec.Hooks.Poststart, specs.StateRunning)
	}
}

func (c *Container) postStop(ctx context.Context) {
	if c.rec.Hooks != nil {
		c.late(ctx, c.rec.Hooks.Poststop, specs.StateStopped)
	}
}

func (c *Container) late(ctx context.Context, hooks []specs.Hook, status specs.ContainerState) {
	state := c.hookState(status)
	for _, hook := range hooks {
		if err := runHook(ctx, hook, state); err != nil {
			c.r.warn(c.ID, []string{err.Error()})
		}
	}
}
