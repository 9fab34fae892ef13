package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime/criu"
)

// RestoreConfig says what container to make of a checkpoint.
type RestoreConfig struct {
	CreateConfig
	// Dir is the folder of the checkpoint.
	Dir string
	// Criu is the program; empty looks for "criu" on the PATH.
	Criu string
}

// restoreWork is for CRIU's log, in the state directory while a container is restored.
const restoreWork = "criu"

// places is where the root and what is bound are shown to CRIU. It is in no folder that
// is ever removed as a whole, for what shows there is users' data.
func (r *Runtime) places(id string) string { return filepath.Join(r.root+".restore", id) }

// Restore makes a container of a checkpoint. Its processes stand still until Start.
// Mounts, streams and network are those of the configuration; hooks are not run, and
// the program, its rights and its limits are those that it had. The checkpoint must be
// trusted: what it says is what runs.
func (r *Runtime) Restore(ctx context.Context, cfg RestoreConfig) (*Container, error) {
	c, err := r.make(ctx, cfg.CreateConfig, func(cr *creation, ctx context.Context) (*Container, error) {
		out, err := loadOutside(cfg.Dir)
		if err != nil {
			return nil, err
		}
		return (&restoration{creation: cr, cfg: cfg, out: out}).run(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("restore container %q: %w", cfg.ID, unavailable(err))
	}
	return c, nil
}

// restoration is one call of Restore.
type restoration struct {
	*creation
	cfg  RestoreConfig
	out  *outside
	call *criu.Call
	// binds are the binds of the configuration, by where they really are.
	binds map[string]specs.Mount
	files []*os.File
}

func (rs *restoration) run(ctx context.Context) (*Container, error) {
	defer rs.close()
	b := rs.b
	if err := portable(b.spec); err != nil {
		return nil, err
	}
	if rs.r.options.SystemdCgroup {
		return nil, errScoped
	}
	b.plan = &plan{}
	if err := rs.makeGroup(ctx); err != nil {
		return nil, err
	}
	err := rs.placed(func(root string, list []specs.Mount) error {
		if err := rs.findBinds(root, list); err != nil {
			return err
		}
		return rs.callCriu(root)
	})
	if err != nil {
		return nil, err
	}
	rs.rec = rs.newRecord()
	rs.rec.Restored = true
	if rs.c, err = rs.r.adopt(rs.rec, rs.restored); err != nil {
		return nil, err
	}
	if err := unix.Mkfifo(filepath.Join(rs.dir, gateFile), 0o600); err != nil {
		return nil, err
	}
	return rs.c, rs.save()
}

// placed shows the root and what is bound while fn runs.
func (rs *restoration) placed(fn func(root string, list []specs.Mount) error) (err error) {
	dir := rs.r.places(rs.creation.cfg.ID)
	defer func() { err = errors.Join(err, Displace(dir)) }()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	if err := rs.attachRoot(root); err != nil {
		return err
	}
	list, err := Place(rs.b.spec.Mounts, dir)
	if err != nil {
		return err
	}
	return fn(root, list)
}

func (rs *restoration) close() {
	for _, f := range rs.files {
		f.Close()
	}
	rs.b.plan.close()
}

// attachRoot shows the root file system in a folder for CRIU to clone.
func (rs *restoration) attachRoot(at string) error {
	if err := rs.b.openRoot(rs.creation.cfg.Rootfs); err != nil {
		return err
	}
	private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(rs.b.root, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &private); err != nil {
		return fmt.Errorf("propagation of the root: %w", err)
	}
	if err := unix.MoveMount(rs.b.root, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the root: %w", err)
	}
	return nil
}

// callCriu lets CRIU make the processes, whose first becomes our child.
func (rs *restoration) callCriu(root string) error {
	work := filepath.Join(rs.dir, restoreWork)
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	pidFile := filepath.Join(work, "pid")
	rs.call = &criu.Call{Program: rs.cfg.Criu, Image: rs.cfg.Dir, Work: work}
	rs.call.Add("--root", root, "--pidfile", pidFile, "--restore-detached", "--restore-sibling", "--leave-stopped", groupMode(rs.group))
	rs.addGroups()
	rs.out.Connections.add(rs.call)
	if err := errors.Join(rs.addMounts(), rs.addNetwork(), rs.addStdio()); err != nil {
		return err
	}
	if err := rs.call.Restore(); err != nil {
		return err
	}
	var err error
	if rs.restored, err = criu.PID(pidFile); err != nil {
		return fmt.Errorf("process id of what was restored: %w", err)
	}
	return os.RemoveAll(work)
}

// addGroups tells where the control group is, if it was elsewhere.
func (rs *restoration) addGroups() {
	for hierarchy, path := range rs.r.host.Paths(rs.group) {
		if path == rs.out.Groups[hierarchy] {
			continue
		}
		if hierarchy != "" {
			path = hierarchy + ":" + path
		}
		rs.call.Add("--cgroup-root", path)
	}
}

// addStdio gives the streams that were those of the container.
func (rs *restoration) addStdio() error {
	for fd, f := range []*os.File{rs.creation.cfg.Stdin, rs.creation.cfg.Stdout, rs.creation.cfg.Stderr} {
		name := rs.out.Stdio[fd]
		if name == "" {
			continue
		}
		if f == nil {
			null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			rs.files = append(rs.files, null)
			f = null
		}
		rs.call.Inherit(f, name)
	}
	return nil
}

// addNetwork gives the network namespace that the configuration names, or a new one.
func (rs *restoration) addNetwork() error {
	if !rs.out.Network {
		return nil
	}
	path, ok := rs.b.namespace(specs.NetworkNamespace)
	if !ok {
		return invalid("the checkpoint has a network namespace, the configuration has none")
	}
	ns, err := openNetwork(path)
	if err != nil {
		return err
	}
	rs.files = append(rs.files, ns)
	rs.call.Inherit(ns, networkKey)
	return nil
}

// openNetwork opens a network namespace; an empty path makes one, with loopback.
func openNetwork(path string) (*os.File, error) {
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("network namespace: %w", err)
		}
		return f, nil
	}
	type result struct {
		f   *os.File
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its namespace
		f, err := newNetwork()
		made <- result{f, err}
	}()
	r := <-made
	return r.f, r.err
}

// newNetwork moves the thread into a new network namespace.
func newNetwork() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(req))); errno != 0 {
		return nil, fmt.Errorf("bring up loopback: %w", errno)
	}
	return os.Open("/proc/thread-self/ns/net")
}

// goOn lets what was restored run.
func (c *Container) goOn() error {
	if err := os.Remove(filepath.Join(c.r.dir(c.ID), gateFile)); err != nil {
		return fmt.Errorf("start container %q: %w: it has been started", c.ID, ErrState)
	}
	pids, err := c.Pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, unix.SIGCONT); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return err
}
