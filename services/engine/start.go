package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/services/spec"
)

// specType names an OCI runtime spec in records, as containerd does.
const specType = "types.containerd.io/opencontainers/runtime-spec/1/"

// Start runs a container. One that runs already is NotModified.
func (e *Engine) Start(ctx context.Context, ref string) error {
	c, err := e.lookup(ref)
	if err != nil {
		return err
	}
	return e.begin(ctx, c, "")
}

// begin starts a container because somebody wants so, anew or from a checkpoint's folder.
func (e *Engine) begin(ctx context.Context, c *Container, checkpoint string) error {
	c.op.Lock()
	defer c.op.Unlock()
	switch s := c.state(); {
	case s.Removing:
		return conflict("container is marked for removal and cannot be started")
	case s.Paused:
		return conflict("cannot start a paused container, try unpause instead")
	case s.Running, s.Restarting:
		return errUnchanged
	}
	c.mu.Lock()
	c.rec.Restart = restarts{}
	c.mu.Unlock()
	ctx = e.detached(ctx) // half a start is worse than one that nobody waits for
	if err := e.start(ctx, c, checkpoint); err != nil {
		e.failed(ctx, c, err)
		return err
	}
	return nil
}

// start makes the task, anew or from a checkpoint's folder, and starts it. Called with
// op held.
func (e *Engine) start(ctx context.Context, c *Container, checkpoint string) error {
	s, err := e.Snapshots(c.stored.Snapshotter)
	if err != nil {
		return err
	}
	rootfs, err := s.Mounts(ctx, c.stored.SnapshotKey)
	if err != nil {
		return fmt.Errorf("file system of container %s: %w", c.ID, err)
	}
	if err := e.useVolumes(ctx, c); err != nil {
		return err
	}
	made, err := e.spec(ctx, c, rootfs)
	if err != nil {
		return err
	}
	_, host := c.config()
	if err := e.create(ctx, c, made, e.shiftRoot(host, rootfs), checkpoint); err != nil {
		return startError(err)
	}
	e.connect(ctx, c)
	task, err := e.Tasks.Get(ctx, c.ID)
	if err == nil {
		resp := &wire.StartResponse{}
		if err = task.Call(ctx, "Start", &wire.StartRequest{ID: c.ID}, resp); err == nil {
			e.began(c, int(resp.Pid))
			return nil
		}
	}
	if _, derr := e.Tasks.Delete(ctx, c.ID); derr != nil && !errdefs.IsNotFound(derr) {
		log.G(ctx).WithError(derr).Warnf("task of container %s", c.ID)
	}
	return startError(err)
}

// create records that the container runs, and makes its task, side by side.
func (e *Engine) create(ctx context.Context, c *Container, made *specs.Spec, rootfs []mount.Mount, checkpoint string) error {
	data, err := json.Marshal(made)
	if err != nil {
		return err
	}
	config, _ := c.config()
	req := &wire.CreateTaskRequest{ID: c.ID, Rootfs: toWire(rootfs), Terminal: config.Tty, Checkpoint: checkpoint}
	if req.Stdout, err = e.logURI(c); err != nil {
		return err
	}
	if req.Stdin, err = e.stdin(c.ID, config.OpenStdin); err != nil {
		return err
	}
	c.mu.Lock()
	c.stored.Spec, c.made = raw{specType + "Spec", data}, madeOf(made)
	c.rec.State = State{Running: true, StartedAt: now(), FinishedAt: c.rec.State.FinishedAt, Health: firstHealth(config, c.rec.State.Health)}
	runtime := c.stored.Runtime.Name
	c.mu.Unlock()
	var g errgroup.Group
	if !c.removesItself() { // one that does is recorded when it has run for a while
		g.Go(func() error { return e.save(ctx, c) })
	}
	g.Go(func() error { return e.plug(ctx, c) })
	g.Go(func() error {
		_, err := e.Tasks.Create(ctx, runtime, data, req)
		return err
	})
	if err := g.Wait(); err != nil {
		_, derr := e.Tasks.Delete(ctx, c.ID)
		if derr != nil && !errdefs.IsNotFound(derr) {
			log.G(ctx).WithError(derr).Warnf("task of container %s", c.ID)
		}
		return err
	}
	return nil
}

func toWire(in []mount.Mount) []*types.Mount {
	out := make([]*types.Mount, len(in))
	for i, m := range in {
		out[i] = &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return out
}

// stdin makes the fifo that clients write to.
func (e *Engine) stdin(id string, open bool) (string, error) {
	if !open {
		return "", nil
	}
	path := filepath.Join(e.runFolder(id), "in")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("fifo %s: %w", path, err)
	}
	return path, nil
}

// began notes that the process runs, and waits for its end.
func (e *Engine) began(c *Container, pid int) {
	c.mu.Lock()
	c.rec.State.PID = pid
	ended := make(chan struct{})
	c.ended = ended
	c.mu.Unlock()
	if c.removesItself() {
		e.work.Go(func() { e.recordSoon(c, ended) })
	}
	e.tell(c, "start")
	e.followHealth(c, false)
	e.work.Go(func() { e.monitor(c) })
}

// failed records why a container did not come to run.
func (e *Engine) failed(ctx context.Context, c *Container, why error) {
	c.mu.Lock()
	s := &c.rec.State
	*s = State{ExitCode: failureCode(why), Error: why.Error(), FinishedAt: now()} // "created": it never ran
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, a := range pending {
		a.end(why)
	}
	e.disconnectNetwork(ctx, c)
	e.dropShm(c)
	e.doneVolumes(ctx, c)
	if err := e.save(ctx, c); err != nil {
		log.G(ctx).WithError(err).Warn("a failed start could not be recorded; it is tried again")
		e.saveAgain(c)
	}
	c.fire(waitExit)
	if c.removesItself() {
		if err := e.remove(ctx, c); err != nil {
			log.G(ctx).WithError(err).Warnf("container %s", c.ID)
		}
	}
}

// Exit codes of containers that did not come to run.
const (
	codeNotFound      = 127
	codeNotExecutable = 126
	codeNotStarted    = 128
)

func failureCode(err error) int {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, networkFailed):
		return codeNotStarted
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		return codeNotFound
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"):
		return codeNotExecutable
	}
	return codeNotStarted
}

// startError gives what the runtime says of a command the class of a caller's mistake.
func startError(err error) error {
	if err == nil || failureCode(err) == codeNotStarted {
		return err
	}
	return invalid("failed to start the container's process: %s", firstLine(err))
}

// firstLine leaves out the class that a runtime adds to its text.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// spec makes the runtime spec for a run.
func (e *Engine) spec(ctx context.Context, c *Container, rootfs []mount.Mount) (*specs.Spec, error) {
	config, host := c.config()
	o, err := options(c.ID, config, host)
	if err != nil {
		return nil, err
	}
	if err := sources(c.rec.Mounts); err != nil {
		return nil, err
	}
	if err := e.join(ctx, c, host, &o); err != nil {
		return nil, err
	}
	own, err := e.files(c, config, host)
	if err != nil {
		return nil, err
	}
	if linked, err := e.linkEnv(c, host); err != nil {
		return nil, err
	} else if len(linked) > 0 {
		o.Env = append(linked, o.Env...)
	}
	mounted, err := e.specMounts(ctx, e.view(c))
	if err != nil {
		return nil, err
	}
	o.Mounts = append(append(o.Mounts, own...), mounted...)
	if e.reaped(host) {
		if err := e.addInit(&o); err != nil {
			return nil, err
		}
	}
	if o.Hostname != "" {
		o.Env = append([]string{"HOSTNAME=" + o.Hostname}, o.Env...)
	}
	var made *specs.Spec
	err = e.withAccounts(ctx, c, rootfs, o, func(accounts fs.FS) error {
		o.Rootfs = accounts
		made, err = spec.Generate(o)
		return err
	})
	if err != nil {
		return nil, invalid("%v", err)
	}
	mask(made, host)
	withoutIPC(made, host)
	if err := e.addDevices(made, &host.Resources); err != nil {
		return nil, err
	}
	if err := addLimits(made.Linux.Resources, &host.Resources); err != nil {
		return nil, err
	}
	made.Process.User.Umask = host.Umask
	return made, e.remap(made, c, host, &o)
}

// join chooses the namespaces of other containers and networks.
func (e *Engine) join(ctx context.Context, c *Container, h *hostConfig, o *spec.Options) error {
	var err error
	switch mode := h.NetworkMode; {
	case mode.IsNone(), mode.IsHost():
	case mode.IsContainer():
		o.Network, err = e.namespaceOf(mode.ConnectedContainer(), "net")
	case e.Networks == nil:
		err = e.checkNetwork(ctx, h)
	default:
		var path string
		path, err = e.prepareNetwork(ctx, c, h)
		o.Network = spec.Namespace(path)
	}
	if err == nil && h.PidMode.IsContainer() {
		o.PID, err = e.namespaceOf(h.PidMode.Container(), "pid")
	}
	if err == nil {
		err = e.joinIPC(c, h, o)
	}
	return err
}

// namespaceOf is a namespace of a container that runs.
func (e *Engine) namespaceOf(ref, kind string) (spec.Namespace, error) {
	other, err := e.lookup(ref)
	if err != nil {
		return "", err
	}
	s := other.state()
	if !s.Running || s.PID == 0 {
		return "", conflict("cannot join the %s namespace of container %s: it is not running", kind, ref)
	}
	return spec.Namespace(fmt.Sprintf("/proc/%d/ns/%s", s.PID, kind)), nil
}

// sources checks what is bound into the container. As Docker does, a folder that
// HostConfig.Binds names is made, one that Mounts names must be there.
func sources(list []MountPoint) error {
	for _, m := range list {
		if m.Type != mountBind {
			continue
		}
		_, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) && m.MakeSource {
			err = os.MkdirAll(m.Source, 0o755)
		}
		if err != nil {
			return invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
		}
	}
	return nil
}

// call makes one call to a container's task.
func (e *Engine) call(ctx context.Context, id, method string, req any) error {
	task, err := e.Tasks.Get(ctx, id)
	if err != nil {
		return err
	}
	return task.Call(ctx, method, req, &emptypb.Empty{})
}
