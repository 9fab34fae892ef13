package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/runtime/cgroup"
	"github.com/orlop/orlop/runtime/criu"
)

// CheckpointConfig says how to write a checkpoint.
type CheckpointConfig struct {
	// Dir is the folder for it, made if it is missing. It must be empty.
	Dir string
	// WorkDir gets the log; empty is Dir.
	WorkDir string
	// LeaveRunning lets the container go on; else its processes end.
	LeaveRunning bool
	// Criu is the program; empty looks for "criu" on the PATH.
	Criu string
	Connections
}

// Connections say what becomes of what processes share with others outside.
type Connections struct {
	// TCPEstablished keeps connections, which must be restored at the same address.
	TCPEstablished bool
	// TCPClose ends them instead. Without either a container that has any is refused.
	TCPClose bool
	// ExternalUnix lets unix sockets be connected with the outside.
	ExternalUnix bool
	// FileLocks keeps locks of files.
	FileLocks bool
	// ShellJob allows a session that was begun outside.
	ShellJob bool
}

func (o *Connections) add(call *criu.Call) {
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"--tcp-established", o.TCPEstablished}, {"--tcp-close", o.TCPClose},
		{"--ext-unix-sk", o.ExternalUnix}, {"--file-locks", o.FileLocks}, {"--shell-job", o.ShellJob},
	} {
		if f.on {
			call.Add(f.name)
		}
	}
}

// Checkpoint writes the container's processes into a folder, from which [Runtime.Restore]
// makes them again: memory, descriptors, namespaces but that of the network, what tmpfs
// hold. Files of the container's tree and of its mounts are not in it. The processes stand
// still meanwhile, and nothing interrupts it: Pause and Resume wait. It takes the program
// CRIU; [criu.ErrMissing] says that there is none.
func (c *Container) Checkpoint(cfg CheckpointConfig) error {
	c.still.Lock()
	defer c.still.Unlock()
	if s := c.Status(); s != Running && s != Paused {
		return fmt.Errorf("checkpoint of container %q: %w: it is %s", c.ID, ErrState, s)
	}
	if err := c.checkpoint(cfg); err != nil {
		return fmt.Errorf("checkpoint of container %q: %w", c.ID, err)
	}
	return nil
}

func (c *Container) checkpoint(cfg CheckpointConfig) error {
	spec, err := ReadSpec(c.rec.Bundle)
	if err != nil {
		return err
	}
	if err := portable(spec); err != nil {
		return err
	}
	if c.rec.Group.Unit != "" {
		return errScoped
	}
	if err := emptyDir(cfg.Dir); err != nil {
		return err
	}
	out, err := lookOutside(c.rec.PID, spec)
	if err != nil {
		return err
	}
	out.Connections, out.Groups = cfg.Connections, c.r.host.Paths(c.rec.Group)
	call := &criu.Call{Program: cfg.Criu, Image: cfg.Dir, Work: cfg.WorkDir}
	if call.Work == "" {
		call.Work = cfg.Dir
	}
	call.Add("--tree", fmt.Sprint(c.rec.PID), groupMode(c.rec.Group), "--enable-external-sharing", "--enable-external-masters")
	if cfg.LeaveRunning {
		call.Add("--leave-running")
	}
	if dir := c.rec.Group.FreezerDir(); dir != "" {
		call.Add("--freeze-cgroup", dir)
	}
	cfg.add(call)
	out.declare(call)
	if err := call.Dump(); err != nil {
		return unavailable(err)
	}
	return out.save(cfg.Dir)
}

// groupMode has processes return into their control groups, if they have any.
func groupMode(g *cgroup.Group) string {
	if len(g.V1) == 0 && g.V2 == "" {
		return "--manage-cgroups=ignore"
	}
	return "--manage-cgroups=soft"
}

// unavailable gives the class to what is missing on the machine.
func unavailable(err error) error {
	if errors.Is(err, criu.ErrMissing) {
		return unsupported("%w", err)
	}
	return err
}

// errScoped says what a restore could not do.
var errScoped = unsupported("the container's control group is systemd's, who would have to make it again around what is restored")

// emptyDir makes a folder, or makes sure that there is nothing in it.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("folder %s is not empty: %w", dir, ErrExists)
	}
	return err
}

// portable refuses what a checkpoint can't hold.
func portable(spec *specs.Spec) error {
	if spec.Process != nil && spec.Process.Terminal {
		return unsupported("the container has a terminal, whose other end can't be kept")
	}
	if spec.Linux == nil {
		return nil
	}
	for _, n := range spec.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			return unsupported("the container has users of its own")
		}
		if n.Path != "" && n.Type != specs.NetworkNamespace {
			return unsupported("the container shares another's %s namespace (%s)", n.Type, filepath.Clean(n.Path))
		}
	}
	return nil
}
