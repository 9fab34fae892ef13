package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime"
)

// embedded is a container of the runtime that is linked into the shim: nothing
// is executed on the way to its program.
type embedded struct{ c *runtime.Container }

func createEmbedded(ctx context.Context, rt *runtime.Runtime, cr creation) (box, error) {
	config := runtime.CreateConfig{
		ID: cr.id, Bundle: cr.bundle, Rootfs: cr.rootfs, Stdin: cr.std.in, Stdout: cr.std.out, Stderr: cr.std.err,
		PidFile: filepath.Join(cr.bundle, "init.pid"),
	}
	var c *runtime.Container
	var err error
	if cr.checkpoint != "" {
		c, err = rt.Restore(ctx, runtime.RestoreConfig{CreateConfig: config, Dir: cr.checkpoint})
	} else {
		c, err = rt.Create(ctx, config)
	}
	if err != nil {
		return nil, classify(err)
	}
	return &embedded{c}, nil
}

func (e *embedded) pid() int                        { return e.c.Pid() }
func (e *embedded) console() *os.File               { return e.c.Console() }
func (e *embedded) release()                        {}
func (e *embedded) start(ctx context.Context) error { return classify(e.c.Start(ctx)) }
func (e *embedded) pause(ctx context.Context) error { return classify(e.c.Pause(ctx)) }

func (e *embedded) resume(ctx context.Context) error { return classify(e.c.Resume(ctx)) }

func (e *embedded) wait() exit {
	st, _ := e.c.Wait(context.Background()) // only its context could fail
	return exitOf(st)
}

func exitOf(st runtime.ExitStatus) exit { return exit{code: uint32(st.Code), at: st.At} }

func (e *embedded) kill(sig unix.Signal) error {
	return finished(e.c.Kill(context.Background(), sig, false))
}

func (e *embedded) killAll(ctx context.Context, sig unix.Signal, all bool) error {
	return finished(e.c.Kill(ctx, sig, all))
}

func (e *embedded) update(ctx context.Context, resources []byte) error {
	var r specs.LinuxResources
	if err := json.Unmarshal(resources, &r); err != nil {
		return fmt.Errorf("resources: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return classify(e.c.Update(ctx, &r))
}

func (e *embedded) checkpoint(_ context.Context, dir string, o *options.CheckpointOptions) error {
	return classify(e.c.Checkpoint(runtime.CheckpointConfig{Dir: dir, WorkDir: o.WorkPath, LeaveRunning: !o.Exit,
		Connections: runtime.Connections{TCPEstablished: o.OpenTcp, TCPClose: !o.OpenTcp, ExternalUnix: o.ExternalUnixSockets, FileLocks: o.FileLocks}}))
}

func (e *embedded) pids(context.Context) ([]uint32, error) {
	list, err := e.c.Pids()
	out := make([]uint32, len(list))
	for i, pid := range list {
		out[i] = uint32(pid)
	}
	return out, err
}

func (e *embedded) stats() (any, error) {
	st, err := e.c.Stats()
	if err != nil {
		return nil, err
	}
	if e.c.Group().Unified {
		return metricsV2(st), nil
	}
	return metricsV1(st), nil
}

func (e *embedded) onOOM(f func()) (func(), error) { return e.c.OOM(f) }

func (e *embedded) oomKills() uint64 { return e.c.Group().OOMKills() }

func (e *embedded) remove(ctx context.Context) error { return classify(e.c.Delete(ctx, true)) }

func (e *embedded) exec(ctx context.Context, id string, spec []byte, _ bool, std stdio) (running, error) {
	var proc specs.Process
	if err := json.Unmarshal(spec, &proc); err != nil {
		return nil, fmt.Errorf("exec %q: process is no JSON: %w: %w", id, err, errdefs.ErrInvalidArgument)
	}
	p, err := e.c.Exec(ctx, runtime.ExecConfig{ID: id, Process: &proc, Stdin: std.in, Stdout: std.out, Stderr: std.err})
	if err != nil {
		return nil, classify(err)
	}
	return &embeddedExec{p}, nil
}

// embeddedExec is a further process of an embedded container.
type embeddedExec struct{ p *runtime.Process }

func (e *embeddedExec) pid() int                   { return e.p.Pid() }
func (e *embeddedExec) console() *os.File          { return e.p.Console() }
func (e *embeddedExec) kill(sig unix.Signal) error { return finished(e.p.Kill(sig)) }
func (e *embeddedExec) release()                   { e.p.Close() }

func (e *embeddedExec) wait() exit {
	st, err := e.p.Wait(context.Background())
	if err != nil {
		return exit{code: 255, at: time.Now()}
	}
	return exitOf(st)
}
