package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/runtime/cgroup"
	"github.com/orlop/orlop/runtime/table"
)

// makeGroup makes the control group and sets its limits, or finds out where
// systemd will make it.
func (cr *creation) makeGroup(ctx context.Context) error {
	path := cr.b.spec.Linux.CgroupsPath
	if cr.r.options.SystemdCgroup {
		var err error
		if cr.scope, err = cr.r.host.Scope(ctx, path, cr.cfg.ID); err != nil {
			return scopeError(err)
		}
		cr.group = cr.scope.Group
		cr.b.group, cr.b.scoped = cr.group, true
		return cr.noteFresh(cr.group.Path)
	}
	if path == "" {
		path = cr.cfg.ID
	}
	if err := cr.noteFresh(path); err != nil {
		return err
	}
	g, err := cr.r.host.Create(path)
	cr.group = g
	if err != nil {
		return fmt.Errorf("control group: %w", err)
	}
	cr.r.warn(cr.cfg.ID, g.Denied)
	cr.b.group = g
	if err := thawed(g); err != nil {
		return err
	}
	limits := cr.limits()
	warnings, err := g.Apply(limits)
	cr.r.warn(cr.cfg.ID, warnings)
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	warnings, err = g.ApplyDevices(limits.Devices)
	cr.r.warn(cr.cfg.ID, warnings)
	return err
}

// thawed refuses a group in which the new process would stand still, and we wait for it.
// The root of a hierarchy has no file that says so: nobody can freeze it.
func thawed(g *cgroup.Group) error {
	still, err := g.Stands()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && still {
		err = fmt.Errorf("control group %s is frozen, by whoever uses it or one above it: thaw it or name another: %w", g.Path, ErrState)
	}
	return err
}

// noteFresh writes down that the group was not there before.
func (cr *creation) noteFresh(path string) error {
	if cr.r.host.Exists(path) {
		return nil
	}
	cr.fresh = true
	return os.WriteFile(filepath.Join(cr.dir, freshFile), nil, 0o600)
}

// ownGroup reports whether the group is of this creation: others' stays if it fails.
func (cr *creation) ownGroup() bool {
	if cr.scope != nil {
		return cr.scope.Started()
	}
	return cr.fresh
}

// limits are those of the configuration, never nil.
func (cr *creation) limits() *specs.LinuxResources {
	if r := cr.b.spec.Linux.Resources; r != nil {
		return r
	}
	return &specs.LinuxResources{}
}

// startScope has systemd make the group around the waiting child.
func (cr *creation) startScope(ctx context.Context) error {
	warnings, err := cr.scope.Start(ctx, cr.child.plan.t.PID(), cr.limits())
	cr.r.warn(cr.cfg.ID, append(cr.group.Denied, warnings...))
	return scopeError(err)
}

func scopeError(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("control group by systemd: %w", err)
	if errors.Is(err, cgroup.ErrNoSystemd) {
		return unsupported("%w", err)
	}
	return err
}

// join opens the files by which the child enters the group. There are none as
// long as systemd has not made it.
func (cr *creation) join() (*cgroup.Join, error) {
	if cr.scope != nil {
		return &cgroup.Join{}, nil
	}
	join, err := cr.group.Join(0)
	if err != nil {
		return nil, err
	}
	cr.b.keep(join)
	return join, nil
}

// keep closes the files of a join with the plan.
func (p *plan) keep(join *cgroup.Join) {
	p.files = append(p.files, join.Tasks...)
	if join.V2 != nil {
		p.files = append(p.files, join.V2)
	}
}

// addCgroup lets the process join its groups.
func (p *plan) addCgroup(join *cgroup.Join) {
	zero := p.str("0")
	for _, f := range join.Tasks {
		p.t.Add("join cgroup "+filepath.Dir(f.Name()), unix.SYS_WRITE, int(f.Fd()), zero, 1)
	}
}

// addScope waits until systemd has put the process into its scope, and then
// joins the version 1 hierarchies that systemd leaves alone.
func (b *build) addScope() {
	b.message(stepGroup, b.sock)
	zero := b.str("0")
	for _, v := range b.group.V1 {
		name := "join cgroup " + v.Dir
		open := b.tolerant(b.t.Add(name, unix.SYS_OPENAT, atCWD, b.str(filepath.Join(v.Dir, "tasks")), unix.O_WRONLY|unix.O_CLOEXEC),
			syscall.ENOENT, syscall.EROFS, syscall.EACCES) // denied to us, which is a warning
		b.t.Add(name, unix.SYS_WRITE, table.Result(open), zero, 1)
		b.t.Add(name, unix.SYS_CLOSE, table.Result(open))
		b.t.Else(open)
	}
}
