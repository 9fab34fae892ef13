package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime/cgroup"
	"github.com/orlop/orlop/runtime/seccomp"
	"github.com/orlop/orlop/runtime/table"
	"golang.org/x/sys/unix"
)

// CreateConfig says what container to make.
type CreateConfig struct {
	// ID names the container.
	ID string
	// Bundle is the directory that relative paths of the configuration start from.
	Bundle string
	// Spec is the configuration; nil reads config.json in Bundle. It is not changed.
	Spec *specs.Spec
	// Rootfs is what to mount as the root file system instead of Spec.Root.Path.
	// The mount exists in the container's mount namespace alone and goes with it.
	Rootfs []mount.Mount
	// Stdin, Stdout and Stderr become the program's, unless it has a terminal;
	// nil means /dev/null. The caller may close them when Create has returned.
	Stdin, Stdout, Stderr *os.File
	// ExtraFiles become descriptors 3 and up.
	ExtraFiles []*os.File
	// PidFile, if not empty, gets the process id in our pid namespace.
	PidFile string
	// NoPivot changes the root by chroot, for hosts that run from an initramfs.
	NoPivot bool
}

// maxConfig bounds a config.json.
const maxConfig = 8 << 20

// ReadSpec reads the configuration of a bundle.
func ReadSpec(bundle string) (*specs.Spec, error) {
	spec, _, err := readSpec(bundle)
	return spec, err
}

// written is a configuration whose largest part, the seccomp profile, is read
// only if no container before had the same.
type written struct {
	specs.Spec
	Linux *struct {
		specs.Linux
		Seccomp json.RawMessage `json:"seccomp"`
	} `json:"linux"`
}

// readSpec reads the configuration of a bundle, with its seccomp profile apart.
func readSpec(bundle string) (*specs.Spec, *seccomp.Profile, error) {
	path := filepath.Join(bundle, "config.json")
	st, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if st.Size() > maxConfig {
		return nil, nil, invalid("%s is larger than %d bytes", path, maxConfig)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	w := &written{}
	if err := json.Unmarshal(b, w); err != nil {
		return nil, nil, invalid("%s: %w", path, err)
	}
	spec := &w.Spec
	if w.Linux == nil {
		return spec, nil, nil
	}
	spec.Linux = &w.Linux.Linux
	profile, err := seccomp.Parse(w.Linux.Seccomp)
	if err != nil {
		return nil, nil, invalid("%s: %w", path, err)
	}
	if profile != nil {
		spec.Linux.Seccomp = profile.Config
	}
	return spec, profile, nil
}

// config returns the configuration to follow, with its seccomp profile.
func (cfg *CreateConfig) config(bundle string) (*specs.Spec, *seccomp.Profile, error) {
	if cfg.Spec == nil {
		return readSpec(bundle)
	}
	if cfg.Spec.Linux == nil {
		return cfg.Spec, nil, nil
	}
	profile, err := seccomp.ProfileOf(cfg.Spec.Linux.Seccomp)
	return cfg.Spec, profile, err
}

// Create makes a container up to the point where only the program is missing.
func (r *Runtime) Create(ctx context.Context, cfg CreateConfig) (*Container, error) {
	return r.make(ctx, cfg, (*creation).run)
}

// make prepares a container and lets how make its first process.
func (r *Runtime) make(ctx context.Context, cfg CreateConfig, how func(*creation, context.Context) (*Container, error)) (*Container, error) {
	if err := checkID(cfg.ID); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(cfg.Bundle)
	if err != nil {
		return nil, err
	}
	spec, profile, err := cfg.config(bundle)
	if err != nil {
		return nil, err
	}
	if err := Validate(spec); err != nil {
		return nil, err
	}
	if spec.Linux == nil {
		c := *spec
		c.Linux = &specs.Linux{}
		spec = &c
	}
	if spec.Process == nil {
		return nil, invalid("process is missing")
	}
	if err := Displace(r.places(cfg.ID)); err != nil { // of a restore that was cut off
		return nil, err
	}
	dir := r.dir(cfg.ID)
	if err := os.Mkdir(dir, 0o711); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("container with id %q: %w", cfg.ID, ErrExists)
		}
		return nil, err
	}
	cr := &creation{r: r, cfg: cfg, dir: dir, profile: profile, b: &build{spec: spec, id: cfg.ID, bundle: bundle, noPivot: cfg.NoPivot}}
	c, err := how(cr, ctx)
	if err != nil {
		cr.undo()
		return nil, err
	}
	return c, nil
}

// creation is one call of Create.
type creation struct {
	r     *Runtime
	cfg   CreateConfig
	dir   string
	b     *build
	group *cgroup.Group
	scope *cgroup.Scope // if systemd makes the group
	fresh bool          // the group was not there before
	child *child
	rec   *record
	c     *Container
	// restored is the first process of a checkpoint, or 0.
	restored int
	// profile is the seccomp filter, or nil.
	profile *seccomp.Profile
	// grouped waits for the control group.
	grouped func() error
}

// run makes the control group beside the plan: each waits for the kernel as long
// as the other.
func (cr *creation) run(ctx context.Context) (*Container, error) {
	made := make(chan error, 1)
	go func() { made <- cr.makeGroup(ctx) }()
	cr.grouped = sync.OnceValue(func() error { return <-made })
	err := cr.plan()
	if gerr := cr.grouped(); gerr != nil {
		return nil, gerr
	}
	if err != nil {
		return nil, err
	}
	return cr.follow(ctx)
}

// undo removes what a failed creation has left.
func (cr *creation) undo() {
	if cr.restored != 0 {
		unix.Kill(cr.restored, unix.SIGKILL)
	}
	if cr.child != nil {
		cr.child.kill(cr.b.inner != 0)
		cr.child.release()
	} else if cr.b.plan != nil && cr.b.t != nil {
		cr.b.plan.close()
		cr.b.plan.t.Free()
	}
	if cr.c != nil {
		cr.r.drop(cr.c)
	}
	if cr.group != nil && cr.ownGroup() {
		cr.group.Delete()
	}
	os.RemoveAll(cr.dir)
}

// plan writes the table of the container's first process.
func (cr *creation) plan() error {
	b, spec := cr.b, cr.b.spec
	g, err := cr.program()
	if err != nil {
		return err
	}
	if b.plan, err = newPlan(g.textSize(), int(cr.r.ownPID.Fd())); err != nil {
		return err
	}
	b.propagation, _ = rootPropagation(spec.Linux.RootfsPropagation)
	b.size = spec.Process.ConsoleSize
	if b.labels = present("/sys/fs/selinux/enforce"); !b.labels && spec.Linux.MountLabel != "" {
		b.warn("mount label %q: the kernel has no SELinux", spec.Linux.MountLabel)
	}
	// A process of a pid namespace that we join could trace the child and with
	// it our memory, if it has the capability.
	// A time namespace is only entered by processes that share no memory.
	_, timed := b.namespace(specs.TimeNamespace)
	b.shared = !cr.r.options.Detached && !b.joins(specs.PIDNamespace) && !timed
	if err := b.openRoot(cr.cfg.Rootfs); err != nil {
		return err
	}
	g.proc = withHome(g.proc, b.root)
	if err := b.prepareMounts(); err != nil {
		return err
	}
	child, err := newChild(b.plan)
	if err != nil {
		return err
	}
	child.shared = b.shared
	clone, first, err := cr.write(g, child)
	if err == nil {
		err = child.launch(clone, first)
	}
	if err != nil {
		unix.Close(child.sock)
		unix.Close(child.far)
		return err
	}
	cr.child = child
	child.pid = b.pid
	return nil
}

// write adds all operations.
func (cr *creation) write(g *program, child *child) (table.Clone, table.Ref, error) {
	b := cr.b
	clone := table.Clone{Flags: b.newFlags(), Cgroup: -1, PIDNamespace: -1, NoReturn: userns.Nested()}
	lowest := 3 + len(g.extra)
	var err error
	if b.sock, err = b.place(child.far, lowest); err != nil {
		return clone, 0, err
	}
	if b.gate, err = cr.openGate(lowest); err != nil {
		return clone, 0, err
	}
	if err := cr.grouped(); err != nil {
		return clone, 0, err
	}
	join, err := cr.join()
	if err != nil {
		return clone, 0, err
	}
	if join.V2 != nil {
		clone.Cgroup = int(join.V2.Fd())
	}
	if b.joins(specs.UserNamespace) {
		clone.Flags = 0 // the child clones again, inside
	} else if b.joins(specs.PIDNamespace) {
		if clone.PIDNamespace, err = b.openNamespace(specs.PIDNamespace); err != nil {
			return clone, 0, err
		}
	}
	first := b.t.Next()
	// A copy of our end would keep the child from seeing ours close when we die.
	b.t.Add("close the parent's end", unix.SYS_CLOSE, child.sock)
	if err := b.addStart(join); err != nil {
		return clone, 0, err
	}
	if err := b.addSystem(); err != nil {
		return clone, 0, err
	}
	if err := b.addStdio(g, b.sock, b.gate); err != nil {
		return clone, 0, err
	}
	if err := b.addProgram(g); err != nil {
		return clone, 0, err
	}
	b.message(stepCreated, b.sock)
	b.t.Add("wait for the start", unix.SYS_READ, b.gate, b.t.Alloc(8), 1)
	b.addExec(g)
	return clone, first, nil
}

// openGate makes the pipe that the child reads before it executes the program.
// Any process that may write to the state directory can let it go on.
func (cr *creation) openGate(lowest int) (int, error) {
	path := filepath.Join(cr.dir, gateFile)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return -1, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	cr.b.own(fd)
	return cr.b.place(fd, lowest)
}

// program translates the process section.
func (cr *creation) program() (*program, error) {
	spec, l := cr.b.spec, cr.b.spec.Linux
	g := &program{proc: spec.Process, extra: cr.cfg.ExtraFiles, umask: 0o022,
		stdio: [3]*os.File{cr.cfg.Stdin, cr.cfg.Stdout, cr.cfg.Stderr}}
	if !cr.r.options.NoNewKeyring {
		g.keyring = "_ses." + cr.cfg.ID
	}
	g.newUser = has(spec, specs.UserNamespace)
	g.host = func(id int) int { return id }
	if g.newUser && len(l.UIDMappings) > 0 {
		g.host = func(id int) int { return hostID(l.UIDMappings, id) }
		cr.b.rootUID, cr.b.rootGID = max(hostID(l.UIDMappings, 0), 0), max(hostID(l.GIDMappings, 0), 0)
	}
	var err error
	if cr.profile != nil {
		if g.seccomp, err = cr.profile.Compile(); err != nil {
			return nil, invalid("seccomp: %w", err)
		}
		if g.seccomp.Notifies() != (l.Seccomp.ListenerPath != "") {
			return nil, invalid("seccomp: SCMP_ACT_NOTIFY and listenerPath belong together")
		}
	}
	if g.personality, err = parsePersonality(l.Personality); err != nil {
		return nil, err
	}
	g.policy, err = parseMemoryPolicy(l.MemoryPolicy)
	h := spec.Hooks
	cr.b.hooked = h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0
	return g, err
}

// follow serves the child until the container is created.
func (cr *creation) follow(ctx context.Context) (*Container, error) {
	b := cr.b
	cr.rec = cr.newRecord()
	for {
		step, fd, err := cr.child.next(ctx)
		if err != nil {
			return nil, err
		}
		cr.child.closeFar()
		if step == stepGroup {
			if err := cr.startScope(ctx); err != nil {
				return nil, err
			}
			if err := cr.child.reply(); err != nil {
				return nil, err
			}
			continue
		}
		if cr.c == nil {
			if cr.c, err = cr.r.adopt(cr.rec, b.pid()); err != nil {
				return nil, err
			}
		}
		switch step {
		case stepMaps:
			err = cr.configure()
		case stepHooks:
			err = cr.earlyHooks(ctx)
		case stepConsole:
			cr.c.console = os.NewFile(uintptr(fd), "console")
			continue
		case stepCreated:
			return cr.created()
		}
		if err != nil {
			return nil, err
		}
		if err := cr.child.reply(); err != nil {
			return nil, err
		}
	}
}

func (cr *creation) newRecord() *record {
	s := cr.b.spec
	rec := &record{ID: cr.cfg.ID, Bundle: cr.b.bundle, Created: time.Now(), Group: cr.group, Annotations: s.Annotations,
		Hooks: s.Hooks, UIDs: s.Linux.UIDMappings, GIDs: s.Linux.GIDMappings, Seccomp: cr.profile,
		Process: s.Process, Version: s.Version, Rootfs: s.Root.Path}
	for _, n := range s.Linux.Namespaces {
		rec.Namespaces = append(rec.Namespaces, string(n.Type))
	}
	sets, _ := parseCapabilities(s.Process.Capabilities)
	rec.CanPtrace = sets.bounding&(1<<unix.CAP_SYS_PTRACE) != 0 && !has(s, specs.UserNamespace)
	rec.Personality, _ = parsePersonality(s.Linux.Personality)
	return rec
}

// configure does from outside what the child may not do itself.
func (cr *creation) configure() error {
	b, l, pid := cr.b, cr.b.spec.Linux, cr.b.pid()
	if b.creates(specs.UserNamespace) {
		if err := writeMaps(pid, l.UIDMappings, l.GIDMappings); err != nil {
			return err
		}
	}
	if len(l.TimeOffsets) > 0 {
		var lines strings.Builder
		for name, o := range l.TimeOffsets {
			fmt.Fprintf(&lines, "%s %d %d\n", name, o.Secs, o.Nanosecs)
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", pid), []byte(lines.String()), 0); err != nil {
			return fmt.Errorf("time offsets: %w", err)
		}
	}
	if len(l.NetDevices) > 0 {
		return unsupported("moving network devices")
	}
	return nil
}

// created makes the container official.
func (cr *creation) created() (*Container, error) {
	c := cr.c
	if err := cr.save(); err != nil {
		return nil, err
	}
	cr.r.warn(cr.cfg.ID, append(cr.b.warnings, cr.b.softWarnings()...))
	if err := cr.child.reply(); err != nil {
		return nil, err
	}
	cr.b.plan.close()
	cr.b.mounts, cr.b.spec = nil, nil
	c.mu.Lock()
	c.pending = cr.child
	c.mu.Unlock()
	return c, nil
}

// save writes down that there is a container.
func (cr *creation) save() error {
	if err := cr.rec.save(cr.dir); err != nil || cr.cfg.PidFile == "" {
		return err
	}
	return writePidFile(cr.cfg.PidFile, cr.rec.PID)
}

// writePidFile replaces the file in one step.
func writePidFile(path string, pid int) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
