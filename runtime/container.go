package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/cgroup"
	"golang.org/x/sys/unix"
)

// Container is one container, created, running or stopped.
type Container struct {
	// ID is its name.
	ID string

	r   *Runtime
	rec *record

	task    *task // nil if the first process was gone when we came
	console *os.File

	// still is held while processes are stopped or let go on: a checkpoint does both.
	still sync.Mutex

	mu      sync.Mutex
	pending *child // of a container that we made and that has not been started
	gone    bool
}

// adopt begins to watch a container's first process.
func (r *Runtime) adopt(rec *record, pid int) (*Container, error) {
	t, err := r.watch.add(pid)
	if err != nil {
		return nil, err
	}
	start, _ := startTime(pid)
	if rec.StartTime == 0 {
		rec.PID, rec.StartTime = pid, start
	}
	c := &Container{ID: rec.ID, r: r, rec: rec}
	if start != rec.StartTime {
		// The id belongs to another process by now; ours has ended.
		r.watch.forget(t)
		t.pidfd.Close()
	} else {
		c.task = t
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[rec.ID] = c
	return c, nil
}

// drop forgets a container.
func (r *Runtime) drop(c *Container) {
	r.mu.Lock()
	if r.containers[c.ID] == c {
		delete(r.containers, c.ID)
	}
	r.mu.Unlock()
	if c.task != nil {
		r.watch.forget(c.task)
		c.task.pidfd.Close()
	}
	if c.console != nil {
		c.console.Close()
	}
}

// Load finds a container by its id.
func (r *Runtime) Load(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	r.mu.Lock()
	c := r.containers[id]
	r.mu.Unlock()
	if c != nil {
		return c, nil
	}
	rec, err := readRecord(r.dir(id))
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	if c, err = r.adopt(rec, rec.PID); err == nil {
		return c, nil
	}
	if !errors.Is(err, unix.ESRCH) {
		return nil, err
	}
	c = &Container{ID: id, r: r, rec: rec}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[id] = c
	return c, nil
}

// Pid is the first process's id in our pid namespace.
func (c *Container) Pid() int { return c.rec.PID }

// PidFD is a descriptor of the first process, nil if it was gone before we came.
// It stays open until Delete.
func (c *Container) PidFD() *os.File {
	if c.task == nil {
		return nil
	}
	return c.task.pidfd
}

// Bundle is the directory that the container was made from.
func (c *Container) Bundle() string { return c.rec.Bundle }

// Annotations are those of the configuration.
func (c *Container) Annotations() map[string]string { return c.rec.Annotations }

// CreatedAt is when the container was made.
func (c *Container) CreatedAt() time.Time { return c.rec.Created }

// Process is the process section of the configuration.
func (c *Container) Process() *specs.Process { return c.rec.Process }

// Console is the master of the first process's terminal: nil if it has none or
// if another process made the container. The caller may close it.
func (c *Container) Console() *os.File { return c.console }

// ended reports whether the first process has ended.
func (c *Container) ended() bool {
	if c.task == nil {
		return true
	}
	select {
	case <-c.task.done:
		return true
	default:
	}
	// The watcher may be a moment late.
	fds := []unix.PollFd{{Fd: int32(c.task.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// Status tells where the container is in its life.
func (c *Container) Status() Status {
	switch {
	case c.ended():
		return Stopped
	case waits(c.r.dir(c.ID)):
		return Created
	case c.rec.Group.Frozen():
		return Paused
	}
	return Running
}

// State is what the specification's state operation returns.
func (c *Container) State() *specs.State {
	s := &specs.State{Version: specs.Version, ID: c.ID, Status: specs.ContainerState(c.Status()),
		Bundle: c.rec.Bundle, Annotations: c.rec.Annotations}
	if s.Status != specs.StateStopped {
		s.Pid = c.rec.PID
	}
	return s
}

// Start lets the first process execute its program.
func (c *Container) Start(ctx context.Context) error {
	dir := c.r.dir(c.ID)
	if c.ended() {
		return fmt.Errorf("start container %q: %w: it has stopped", c.ID, ErrState)
	}
	if c.rec.Restored {
		return c.goOn()
	}
	gate, err := os.OpenFile(filepath.Join(dir, gateFile), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("start container %q: %w: it has been started", c.ID, ErrState)
	}
	defer gate.Close()
	if err := c.startHooks(ctx); err != nil {
		return err
	}
	if err := os.Remove(gate.Name()); err != nil {
		return fmt.Errorf("start container %q: %w: it has been started", c.ID, ErrState)
	}
	if _, err := gate.Write([]byte{1}); err != nil {
		return fmt.Errorf("start container %q: %w", c.ID, err)
	}
	c.mu.Lock()
	child := c.pending
	c.pending = nil
	c.mu.Unlock()
	if child != nil {
		err = c.afterGate(ctx, child)
	} else {
		err = gateClosed(ctx, int(gate.Fd()))
	}
	if err != nil {
		return err
	}
	c.postStart(ctx)
	return nil
}

// afterGate follows a child of ours to its program.
func (c *Container) afterGate(ctx context.Context, child *child) error {
	defer child.release()
	if child.plan.loaded != 0 {
		if err := c.offerListener(child); err != nil {
			child.plan.t.Store(child.plan.loaded, 1)
			unix.Kill(c.rec.PID, unix.SIGKILL)
			return err
		}
	}
	if err := child.executed(ctx); err != nil {
		return err
	}
	if child.plan.t.PID() != c.rec.PID && child.plan.t.PID() != 0 {
		reap(child.plan.t.PID()) // the process between, in a joined user namespace
	}
	return nil
}

// gateClosed waits until nobody reads the gate any more: the program was
// executed, or the process ended.
func gateClosed(ctx context.Context, fd int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(fds, 100)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 && fds[0].Revents&unix.POLLERR != 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Wait waits for the first process to end.
func (c *Container) Wait(ctx context.Context) (ExitStatus, error) {
	if c.task == nil {
		return ExitStatus{Code: 255, At: time.Now()}, nil
	}
	return c.task.wait(ctx)
}

func (t *task) wait(ctx context.Context) (ExitStatus, error) {
	select {
	case <-t.done:
		return t.status, nil
	case <-ctx.Done():
		return ExitStatus{}, ctx.Err()
	}
}

// Kill sends a signal to the first process, or to all processes.
func (c *Container) Kill(_ context.Context, sig syscall.Signal, all bool) error {
	ended := c.ended()
	if ended && !all {
		return fmt.Errorf("kill container %q: %w: container not running", c.ID, ErrState)
	}
	if all || (sig == unix.SIGKILL && !slices.Contains(c.rec.Namespaces, string(specs.PIDNamespace))) {
		return c.killAll(sig)
	}
	err := unix.PidfdSendSignal(int(c.task.pidfd.Fd()), sig, nil, 0)
	if err == unix.ESRCH {
		return fmt.Errorf("kill container %q: %w: container not running", c.ID, ErrState)
	}
	if err == nil && sig == unix.SIGKILL && c.rec.Group.Frozen() {
		err = c.rec.Group.Freeze(context.Background(), false)
	}
	return err
}

func (c *Container) killAll(sig syscall.Signal) error {
	if sig == unix.SIGKILL {
		if err := c.rec.Group.KillAll(); !errors.Is(err, cgroup.ErrController) {
			return err
		}
	}
	pids, err := c.Pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, sig); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Pause stops all processes of the container.
func (c *Container) Pause(ctx context.Context) error {
	c.still.Lock()
	defer c.still.Unlock()
	if s := c.Status(); s != Running && s != Created {
		return fmt.Errorf("pause container %q: %w: it is %s", c.ID, ErrState, s)
	}
	return c.rec.Group.Freeze(ctx, true)
}

// Resume lets them go on.
func (c *Container) Resume(ctx context.Context) error {
	c.still.Lock()
	defer c.still.Unlock()
	if s := c.Status(); s != Paused && !c.rec.Group.Frozen() {
		return fmt.Errorf("resume container %q: %w: it is %s", c.ID, ErrState, s)
	}
	return c.rec.Group.Freeze(ctx, false)
}

// Update changes limits.
func (c *Container) Update(_ context.Context, r *specs.LinuxResources) error {
	if c.ended() {
		return fmt.Errorf("update container %q: %w: it has stopped", c.ID, ErrState)
	}
	warnings, err := c.rec.Group.Apply(r)
	c.r.warn(c.ID, warnings)
	if err == nil && r != nil && len(r.Devices) > 0 {
		warnings, err = c.rec.Group.ApplyDevices(r.Devices)
		c.r.warn(c.ID, warnings)
	}
	return err
}

// Stats reads what the container has used.
func (c *Container) Stats() (*cgroup.Stats, error) { return c.rec.Group.Stats() }

// Group is the container's control group.
func (c *Container) Group() *cgroup.Group { return c.rec.Group }

// Pids lists all processes of the container: those of its control group, or
// without one those of its pid namespace.
func (c *Container) Pids() ([]int, error) {
	pids, err := c.rec.Group.Processes()
	if !errors.Is(err, cgroup.ErrController) {
		return pids, err
	}
	if c.ended() {
		return nil, nil
	}
	if !c.in(specs.PIDNamespace) {
		return []int{c.rec.PID}, nil
	}
	return namespaceMates(c.rec.PID)
}

// OOM calls f when a process may have been killed for want of memory (the
// kernel's file also speaks of other things; Group.OOMKills counts), until stop is
// called. No goroutine is kept for it.
func (c *Container) OOM(f func()) (stop func(), err error) {
	events, err := c.rec.Group.OOMEvents()
	if err != nil {
		return nil, err
	}
	fd := int(events.File.Fd())
	unix.SetNonblock(fd, true)
	err = c.r.watch.event(fd, events.Ready, func() {
		if err := events.Drain(); err != nil {
			c.r.watch.dropEvent(fd) // the group is gone
		}
		f()
	})
	if err != nil {
		events.File.Close()
		return nil, err
	}
	return sync.OnceFunc(func() {
		c.r.watch.dropEvent(fd)
		events.File.Close()
	}), nil
}

// killGrace is how long Delete waits for killed processes.
const killGrace = 10 * time.Second

// Delete removes a stopped container; with force also another one, which is
// killed first.
func (c *Container) Delete(ctx context.Context, force bool) error {
	c.mu.Lock()
	gone := c.gone
	c.gone = true
	c.mu.Unlock()
	if gone {
		return nil
	}
	if err := c.delete(ctx, force); err != nil {
		c.mu.Lock()
		c.gone = false
		c.mu.Unlock()
		return err
	}
	return nil
}

func (c *Container) delete(ctx context.Context, force bool) error {
	if s := c.Status(); s != Stopped {
		if !force {
			return fmt.Errorf("delete container %q: %w: it is %s", c.ID, ErrState, s)
		}
		if err := c.end(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	child := c.pending
	c.pending = nil
	c.mu.Unlock()
	if child != nil {
		child.release()
	}
	if c.task != nil {
		<-c.task.done // the watcher is about to see the end
	}
	if !slices.Contains(c.rec.Namespaces, string(specs.PIDNamespace)) {
		c.rec.Group.KillAll()
	}
	if err := c.rec.Group.Delete(); err != nil {
		return fmt.Errorf("delete container %q: %w", c.ID, err)
	}
	if err := os.RemoveAll(c.r.dir(c.ID)); err != nil {
		return err
	}
	c.r.drop(c)
	c.postStop(ctx)
	return nil
}

// end kills everything and waits.
func (c *Container) end(ctx context.Context) error {
	if err := c.Kill(ctx, unix.SIGKILL, false); err != nil && !errors.Is(err, ErrState) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	if _, err := c.Wait(ctx); err != nil {
		return fmt.Errorf("container %q does not end: %w", c.ID, err)
	}
	return nil
}

// Rootfs is the path of the root file system in the configuration.
func (c *Container) Rootfs() string {
	if filepath.IsAbs(c.rec.Rootfs) {
		return c.rec.Rootfs
	}
	return filepath.Join(c.rec.Bundle, c.rec.Rootfs)
}
