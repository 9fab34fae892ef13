package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/orlop/orlop/internal/detach"
	"github.com/orlop/orlop/services/spec"
)

const (
	// maxExecs bounds the execs of a container that are kept.
	maxExecs = 1000
	// execDrain bounds how long the output of an exec that has ended is read on, if
	// other processes hold it open.
	execDrain = 200 * time.Millisecond
)

// Exec is a process to run in a container.
type Exec struct {
	Args            []string
	Env             []string
	Cwd, User       string
	TTY, Privileged bool
	Stdin, Stdout   bool
	Stderr          bool
	DetachKeys      string
	Height, Width   uint
}

// ExecView is an exec as it is at one moment.
type ExecView struct {
	Exec
	ID, Container string
	Running       bool
	PID           int
	ExitCode      *int
}

// execution is an exec; it goes when its container does, or the daemon.
type execution struct {
	Exec
	id string
	c  *Container
	// user is the exec's own, nil for the container's.
	user *specs.User

	mu      sync.Mutex
	started bool
	running bool
	pid     int
	code    *int
	done    chan struct{} // closed at the end
}

func (x *execution) isRunning() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.running
}

// NewExec prepares a process in a container that runs.
func (e *Engine) NewExec(ref string, o Exec) (string, error) {
	c, err := e.mustRun(ref)
	if err != nil {
		return "", err
	}
	if c.state().Paused {
		return "", conflict("container %s is paused, unpause the container before exec", ref)
	}
	if len(o.Args) == 0 || o.Args[0] == "" {
		return "", invalid("no exec command specified")
	}
	if err := detach.Check(o.DetachKeys); err != nil {
		return "", err
	}
	x := &execution{Exec: o, id: newID(), c: c, done: make(chan struct{})}
	if err := x.findUser(); err != nil {
		return "", err
	}
	e.mu.Lock()
	e.forgetExecs(c)
	e.execs[x.id] = x
	e.mu.Unlock()
	e.tell(c, "exec_create: "+strings.Join(o.Args, " "), "execID", x.id)
	return x.id, nil
}

// forgetExecs makes room for another exec of a container. Called with mu held.
func (e *Engine) forgetExecs(c *Container) {
	var ended []string
	n := 0
	for id, x := range e.execs {
		if x.c != c {
			continue
		}
		n++
		if !x.isRunning() {
			ended = append(ended, id)
		}
	}
	if n < maxExecs {
		return
	}
	for _, id := range ended {
		delete(e.execs, id)
	}
}

func (e *Engine) execution(id string) (*execution, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.execs[id]
	if x == nil {
		return nil, notFound("No such exec instance: %s", id)
	}
	return x, nil
}

// InspectExec tells how an exec is.
func (e *Engine) InspectExec(id string) (ExecView, error) {
	x, err := e.execution(id)
	if err != nil {
		return ExecView{}, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return ExecView{Exec: x.Exec, ID: x.id, Container: x.c.ID, Running: x.running, PID: x.pid, ExitCode: x.code}, nil
}

// ResizeExec sets the size of an exec's terminal.
func (e *Engine) ResizeExec(ctx context.Context, id string, height, width uint32) error {
	x, err := e.execution(id)
	if err != nil {
		return err
	}
	if !x.isRunning() {
		return conflict("exec %s is not running", id)
	}
	return e.call(e.in(ctx), x.c.ID, "ResizePty", &wire.ResizePtyRequest{ID: x.c.ID, ExecID: x.id, Height: height, Width: width})
}

// ClaimExec checks that an exec can be started, and that nobody else has. The function it
// returns starts it and, with streams, copies them until its end; without, it
// returns when the process runs.
func (e *Engine) ClaimExec(id string) (view ExecView, run func(ctx context.Context, s *Streams) error, err error) {
	x, err := e.execution(id)
	if err != nil {
		return ExecView{}, nil, err
	}
	if _, err := e.mustRun(x.c.ID); err != nil {
		return ExecView{}, nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started {
		return ExecView{}, nil, conflict("exec %s has already been started", id)
	}
	x.started = true
	view = ExecView{Exec: x.Exec, ID: x.id, Container: x.c.ID}
	return view, func(ctx context.Context, s *Streams) error { return e.exec(ctx, x, s) }, nil
}

func (e *Engine) exec(ctx context.Context, x *execution, s *Streams) error {
	p, err := e.openPipes(x, s)
	if err == nil {
		err = e.startExec(e.detached(ctx), x, p)
	}
	if err != nil {
		p.close()
		n := failureCode(err)
		x.mu.Lock()
		x.code = &n
		x.mu.Unlock()
		return err
	}
	e.work.Go(func() { e.awaitExec(x, p) })
	if s == nil {
		return nil
	}
	return e.copyExec(ctx, x, p, *s)
}

// startExec makes the process and starts it.
func (e *Engine) startExec(ctx context.Context, x *execution, p *pipes) error {
	process, err := e.process(ctx, x)
	if err != nil {
		return err
	}
	data, err := json.Marshal(process)
	if err != nil {
		return err
	}
	req := &wire.ExecProcessRequest{ID: x.c.ID, ExecID: x.id, Terminal: x.TTY, Stdin: p.inPath, Stdout: p.outPath, Stderr: p.errPath,
		Spec: &anypb.Any{TypeUrl: specType + "Process", Value: data}}
	if err := e.call(ctx, x.c.ID, "Exec", req); err != nil {
		return err
	}
	t, err := e.Tasks.Get(ctx, x.c.ID)
	if err != nil {
		return err
	}
	resp := &wire.StartResponse{}
	if err := t.Call(ctx, "Start", &wire.StartRequest{ID: x.c.ID, ExecID: x.id}, resp); err != nil {
		e.deleteExec(ctx, x)
		return execError(err)
	}
	p.handedOver()
	x.mu.Lock()
	x.running, x.pid = true, int(resp.Pid)
	x.mu.Unlock()
	e.tell(x.c, "exec_start: "+strings.Join(x.Args, " "), "execID", x.id)
	return nil
}

func execError(err error) error {
	if failureCode(err) == codeNotStarted {
		return err
	}
	return invalid("exec failed: %s", firstLine(err))
}

func (e *Engine) deleteExec(ctx context.Context, x *execution) {
	t, err := e.Tasks.Get(ctx, x.c.ID)
	if err == nil {
		err = t.Call(ctx, "Delete", &wire.DeleteRequest{ID: x.c.ID, ExecID: x.id}, &wire.DeleteResponse{})
	}
	if err != nil && !errdefs.IsNotFound(err) {
		log.G(ctx).WithError(err).Debugf("exec %s", x.id)
	}
}

// process makes the spec of an exec from that of its container.
func (e *Engine) process(ctx context.Context, x *execution) (*specs.Process, error) {
	c, err := e.made(ctx, x.c)
	if err != nil {
		return nil, err
	}
	p := *c.process
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, nil
	if x.TTY && x.Height > 0 && x.Width > 0 {
		p.ConsoleSize = &specs.Box{Height: x.Height, Width: x.Width}
	}
	under := slices.Clone(p.Env)
	if x.TTY {
		under = mergeEnv(under, []string{"TERM=xterm"})
	}
	p.Env = mergeEnv(under, x.Env)
	if x.Cwd != "" {
		if !filepath.IsAbs(x.Cwd) {
			return nil, invalid("working folder %q is no absolute path", x.Cwd)
		}
		p.Cwd = x.Cwd
	}
	if x.Privileged {
		all, err := spec.Generate(spec.Options{ID: x.id, Args: x.Args, Security: spec.Security{Privileged: true}})
		if err != nil {
			return nil, err
		}
		p.Capabilities, p.ApparmorProfile = all.Process.Capabilities, ""
	}
	if x.user != nil {
		p.User, p.User.Umask = *x.user, c.process.User.Umask
	}
	return &p, nil
}

// findUser looks the exec's user up, if it isn't the container's.
func (x *execution) findUser() error {
	x.c.mu.Lock()
	pid, own := x.c.rec.State.PID, x.c.rec.Config.User
	x.c.mu.Unlock()
	if x.User == "" || x.User == own {
		return nil
	}
	u, err := userIn(pid, x.User)
	x.user = &u
	return err
}

// userIn looks a user up in a running container. Symbolic links can't lead out of it.
func userIn(pid int, name string) (specs.User, error) {
	if !spec.NeedsAccounts(name, nil) {
		return spec.User(name, nil, nil)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return specs.User{}, err
	}
	defer root.Close()
	u, err := spec.User(name, nil, root.FS())
	if err != nil {
		return u, userError(name, err)
	}
	return u, nil
}

// userError says in Docker's words what is missing.
func userError(text string, err error) error {
	name, group, _ := strings.Cut(text, ":")
	switch {
	case errors.Is(err, spec.ErrNoUser):
		return invalid("unable to find user %s: no matching entries in passwd file", name)
	case errors.Is(err, spec.ErrNoGroup):
		return invalid("unable to find group %s: no matching entries in group file", group)
	}
	return invalid("unable to find user %s: %v", text, err)
}

// awaitExec waits for the end of an exec.
func (e *Engine) awaitExec(x *execution, p *pipes) {
	resp := &wire.WaitResponse{}
	t, err := e.Tasks.Get(e.life, x.c.ID)
	if err == nil {
		err = t.Call(e.life, "Wait", &wire.WaitRequest{ID: x.c.ID, ExecID: x.id}, resp)
	}
	if e.life.Err() != nil {
		p.close()
		return
	}
	n := int(resp.ExitStatus)
	if err != nil {
		n = codeUnknown // its container went first
	}
	x.mu.Lock()
	x.running, x.code = false, &n
	x.mu.Unlock()
	e.deleteExec(e.life, x)
	e.tell(x.c, "exec_die", "execID", x.id, "exitCode", code(n))
	close(x.done)
	p.drain()
}

// copyExec copies streams until the exec's end, or until the client has typed the
// keys. The process goes on without its client.
func (e *Engine) copyExec(ctx context.Context, x *execution, p *pipes, s Streams) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	if s.In != nil && p.in != nil {
		go func() {
			if err := e.execStdin(x, p, s); errors.Is(err, detach.Err) {
				cancel(err)
			}
		}()
	}
	var wg sync.WaitGroup
	pump := func(to io.Writer, from *os.File) {
		if from == nil {
			return
		}
		if to == nil {
			to = io.Discard
		}
		wg.Go(func() { io.Copy(to, from) })
	}
	pump(s.Out, p.out)
	pump(s.Err, p.err)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	select {
	case <-x.done:
	case <-ctx.Done():
	case <-e.life.Done():
	}
	p.close()
	return nil
}

func (e *Engine) execStdin(x *execution, p *pipes, s Streams) error {
	in := s.In
	if x.TTY {
		var err error
		keys := x.DetachKeys
		if in, err = detach.Reader(in, keys); err != nil {
			return err
		}
	}
	_, err := io.Copy(p.in, in)
	p.in.Close()
	if errors.Is(err, detach.Err) {
		return err
	}
	return e.call(e.life, x.c.ID, "CloseIO", &wire.CloseIORequest{ID: x.c.ID, ExecID: x.id, Stdin: true})
}

// pipes are the fifos of an exec.
type pipes struct {
	dir                      string
	inPath, outPath, errPath string
	in, out, err             *os.File
	keep                     []*os.File // writers, so that there is no end before the start
	once                     sync.Once
}

// openPipes makes the fifos that are wanted; none without streams.
func (e *Engine) openPipes(x *execution, s *Streams) (*pipes, error) {
	p := &pipes{dir: filepath.Join(e.runFolder(x.c.ID), x.id[:32])}
	if s == nil {
		return p, nil
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return p, err
	}
	if x.Stdin {
		p.inPath = filepath.Join(p.dir, "in")
		if err := unix.Mkfifo(p.inPath, 0o600); err != nil {
			return p, err
		}
	}
	err := p.output("out", &p.outPath, &p.out)
	if err == nil && !x.TTY {
		err = p.output("err", &p.errPath, &p.err)
	}
	return p, err
}

// output makes a fifo and opens it to read; a writer of our own keeps it from
// ending before the process has opened it.
func (p *pipes) output(name string, path *string, file **os.File) error {
	*path = filepath.Join(p.dir, name)
	if err := unix.Mkfifo(*path, 0o600); err != nil {
		return err
	}
	var err error
	if *file, err = os.OpenFile(*path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	w, err := os.OpenFile(*path, os.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		p.keep = append(p.keep, w)
	}
	return err
}

// handedOver lets go of the writers: the process has its own.
func (p *pipes) handedOver() {
	for _, f := range p.keep {
		f.Close()
	}
	p.keep = nil
	if p.inPath != "" {
		p.in, _ = openStdin(p.inPath)
	}
}

// drain ends reading soon, though others may still hold the fifos.
func (p *pipes) drain() {
	for _, f := range []*os.File{p.out, p.err} {
		if f != nil {
			f.SetReadDeadline(time.Now().Add(execDrain))
		}
	}
}

func (p *pipes) close() {
	p.once.Do(func() {
		for _, f := range append(p.keep, p.in, p.out, p.err) {
			if f != nil {
				f.Close()
			}
		}
		os.RemoveAll(p.dir)
	})
}
