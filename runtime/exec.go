package runtime

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// ExecConfig says what further program to run in a container.
type ExecConfig struct {
	// ID names the process for messages; it may be empty.
	ID string
	// Process is what to run.
	Process *specs.Process
	// Stdin, Stdout and Stderr become the program's, unless it has a terminal.
	Stdin, Stdout, Stderr *os.File
	// ExtraFiles become descriptors 3 and up.
	ExtraFiles []*os.File
	// PidFile, if not empty, gets the process id.
	PidFile string

	hook bool // no seccomp, all capabilities: a hook is the host's program
}

// Process is a further process of a container.
type Process struct {
	// ID is that of the ExecConfig.
	ID string

	task    *task
	console *os.File
	r       *Runtime
}

// Pid is the process id in our pid namespace.
func (p *Process) Pid() int { return p.task.pid }

// PidFD stays open until Close.
func (p *Process) PidFD() *os.File { return p.task.pidfd }

// Console is the master of the process's terminal, or nil.
func (p *Process) Console() *os.File { return p.console }

// Wait waits for the process to end.
func (p *Process) Wait(ctx context.Context) (ExitStatus, error) { return p.task.wait(ctx) }

// Kill sends a signal.
func (p *Process) Kill(sig syscall.Signal) error {
	return unix.PidfdSendSignal(int(p.task.pidfd.Fd()), sig, nil, 0)
}

// Resize changes the size of the terminal.
func (p *Process) Resize(rows, columns uint16) error { return resize(p.console, rows, columns) }

// Resize changes the size of the first process's terminal.
func (c *Container) Resize(rows, columns uint16) error { return resize(c.console, rows, columns) }

func resize(console *os.File, rows, columns uint16) error {
	if console == nil {
		return fmt.Errorf("resize: %w: no terminal", ErrState)
	}
	return unix.IoctlSetWinsize(int(console.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
}

// Close frees the descriptors of an ended process. Before the end it only
// closes the terminal; the process is still reaped.
func (p *Process) Close() {
	if p.console != nil {
		p.console.Close()
	}
	select {
	case <-p.task.done:
		p.task.pidfd.Close()
	default:
		go func() { <-p.task.done; p.task.pidfd.Close() }()
	}
}

// Exec runs a further program in the container. It returns when the program has
// been executed, or with the reason why not.
func (c *Container) Exec(ctx context.Context, cfg ExecConfig) (*Process, error) {
	if err := checkProgram(cfg.Process); err != nil {
		return nil, err
	}
	if err := checkIDs(cfg.Process.User); err != nil {
		return nil, err
	}
	if s := c.Status(); s == Stopped || (s == Paused && !cfg.hook) {
		return nil, fmt.Errorf("exec in container %q: %w: it is %s", c.ID, ErrState, s)
	}
	e := &execution{c: c, cfg: cfg}
	p, err := e.run(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.PidFile != "" {
		if err := writePidFile(cfg.PidFile, p.Pid()); err != nil {
			p.Kill(unix.SIGKILL)
			return nil, err
		}
	}
	return p, nil
}

// execution is one call of Exec.
type execution struct {
	c     *Container
	cfg   ExecConfig
	p     *plan
	child *child
}

func (c *Container) in(kind specs.LinuxNamespaceType) bool {
	return slices.Contains(c.rec.Namespaces, string(kind))
}

func (e *execution) run(ctx context.Context) (*Process, error) {
	g, err := e.program()
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", e.c.rec.PID), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root of container %q: %w", e.c.ID, err)
	}
	defer unix.Close(root)
	if e.c.ended() {
		return nil, fmt.Errorf("exec in container %q: %w: it has stopped", e.c.ID, ErrState)
	}
	g.proc = withHome(g.proc, root)
	if e.p, err = newPlan(g.textSize(), int(e.c.r.ownPID.Fd())); err != nil {
		return nil, err
	}
	if e.child, err = newChild(e.p); err != nil {
		e.p.t.Free()
		return nil, err
	}
	// A process inside with the capability could trace the child, and a time
	// namespace is not for processes that share memory.
	e.child.shared = !e.c.r.options.Detached && !e.c.rec.CanPtrace && !e.c.in(specs.TimeNamespace)
	clone, first, err := e.write(g, root)
	if err == nil {
		err = e.child.launch(clone, first)
	}
	if err != nil {
		close(e.child.done)
		e.child.release()
		return nil, err
	}
	defer e.child.release()
	return e.follow(ctx, g)
}

// follow waits for the program.
func (e *execution) follow(ctx context.Context, g *program) (*Process, error) {
	p := &Process{ID: e.cfg.ID, r: e.c.r}
	fail := func(err error) (*Process, error) {
		if p.console != nil {
			p.console.Close()
		}
		if p.task != nil {
			e.c.r.watch.forget(p.task)
			p.task.pidfd.Close()
		}
		e.child.kill(false)
		return nil, err
	}
	if g.proc.Terminal {
		step, fd, err := e.child.next(ctx)
		if err != nil {
			return fail(err)
		}
		if step == stepConsole && fd >= 0 {
			p.console = os.NewFile(uintptr(fd), "console")
		}
	}
	if e.p.loaded != 0 {
		if err := e.c.offerListener(e.child); err != nil {
			e.p.t.Store(e.p.loaded, 1)
			return fail(err)
		}
	}
	if err := e.child.executed(ctx); err != nil {
		return fail(err)
	}
	var err error
	if p.task, err = e.c.r.watch.add(e.child.pid()); err != nil {
		return fail(err)
	}
	e.c.r.warn(e.c.ID, append(e.p.warnings, e.p.softWarnings()...))
	return p, nil
}

func (e *execution) program() (*program, error) {
	rec := e.c.rec
	g := &program{proc: e.cfg.Process, extra: e.cfg.ExtraFiles, umask: 0o022, personality: rec.Personality,
		stdio: [3]*os.File{e.cfg.Stdin, e.cfg.Stdout, e.cfg.Stderr}, newUser: e.c.in(specs.UserNamespace)}
	g.host = func(id int) int { return id }
	if len(rec.UIDs) > 0 {
		g.host = func(id int) int { return hostID(rec.UIDs, id) }
	}
	if rec.Seccomp != nil && !e.cfg.hook {
		var err error
		if g.seccomp, err = rec.Seccomp.Compile(); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// write adds all operations.
func (e *execution) write(g *program, root int) (table.Clone, table.Ref, error) {
	p, t := e.p, e.p.t
	clone := table.Clone{Cgroup: -1, PIDNamespace: -1, NoReturn: userns.Nested()}
	sock, err := p.place(e.child.far, 3+len(g.extra))
	if err != nil {
		return clone, 0, err
	}
	join, err := e.c.rec.Group.Join(e.c.rec.PID)
	if err != nil {
		return clone, 0, err
	}
	p.keep(join)
	if join.V2 != nil {
		clone.Cgroup = int(join.V2.Fd())
	}
	if e.c.in(specs.PIDNamespace) {
		ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", e.c.rec.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return clone, 0, err
		}
		clone.PIDNamespace = p.own(ns)
	}
	first := t.Next()
	t.Add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, t.Alloc(8), 0, 8)
	if a := g.proc.ExecCPUAffinity; a != nil && a.Initial != "" {
		if err := p.addAffinity(a.Initial); err != nil {
			return clone, 0, err
		}
	}
	p.addCgroup(join)
	if a := g.proc.ExecCPUAffinity; a != nil && a.Final != "" {
		if err := p.addAffinity(a.Final); err != nil {
			return clone, 0, err
		}
	}
	if err := p.addScore(g.proc); err != nil {
		return clone, 0, err
	}
	if err := p.addLabels(g.proc); err != nil {
		return clone, 0, err
	}
	t.Add("new session", unix.SYS_SETSID)
	e.enter(root)
	if g.proc.Terminal {
		p.size = g.proc.ConsoleSize
		p.terminal = p.openTerminal(root, sock)
	}
	if err := p.addStdio(g, sock); err != nil {
		return clone, 0, err
	}
	if err := p.addProgram(g); err != nil {
		return clone, 0, err
	}
	p.addExec(g)
	return clone, first, nil
}

// enter joins the namespaces and the root of the container's first process.
func (e *execution) enter(root int) {
	t := e.p.t
	var flags uint64
	for kind, f := range cloneFlags {
		if kind != specs.PIDNamespace && e.c.in(kind) {
			flags |= f
		}
	}
	for kind, f := range laterFlags {
		if e.c.in(kind) {
			flags |= f
		}
	}
	if flags != 0 {
		t.Add("enter the container", unix.SYS_SETNS, int(e.c.task.pidfd.Fd()), flags)
	}
	if e.c.in(specs.UserNamespace) {
		e.p.tolerant(t.Add("drop groups", unix.SYS_SETGROUPS, 0, 0), syscall.EPERM)
		t.Add("become group 0", unix.SYS_SETRESGID, 0, 0, 0)
		t.Add("become user 0", unix.SYS_SETRESUID, 0, 0, 0)
	}
	t.Add("enter the root", unix.SYS_FCHDIR, root)
	t.Add("change root", unix.SYS_CHROOT, e.p.str("."))
}

// runInside runs a hook in the container's namespaces, below its present root.
func (c *Container) runInside(ctx context.Context, h specs.Hook, state []byte) error {
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	defer out.Close()
	if _, err := out.Write(state[:min(len(state), 60<<10)]); err != nil {
		return err
	}
	out.Close()
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = withSeconds(ctx, *h.Timeout)
		defer cancel()
	}
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	proc := &specs.Process{Args: append([]string{h.Path}, args[1:]...), Env: append(h.Env[:len(h.Env):len(h.Env)], "HOME=/"), Cwd: "/"}
	all := CapabilityNames()
	proc.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	p, err := c.Exec(ctx, ExecConfig{Process: proc, Stdin: in, hook: true})
	if err != nil {
		return fmt.Errorf("hook %s: %w", h.Path, err)
	}
	defer p.Close()
	st, err := p.Wait(ctx)
	if err != nil {
		p.Kill(unix.SIGKILL)
		return fmt.Errorf("hook %s: %w", h.Path, err)
	}
	if st.Code != 0 {
		return fmt.Errorf("hook %s: exit status %d", h.Path, st.Code)
	}
	return nil
}
