package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxProcesses bounds what is read of one group.
const maxProcesses = 1 << 20

// procsDir is the hierarchy that lists processes best.
func (g *Group) procsDir() (string, bool) {
	if g.Unified {
		return g.V2, true
	}
	for _, c := range []string{"pids", "freezer", "memory", "cpu", "devices", "name=systemd"} {
		if dir, ok := g.dir(c); ok {
			return dir, true
		}
	}
	if len(g.V1) > 0 {
		return g.V1[0].Dir, true
	}
	return g.V2, g.V2 != ""
}

// Processes lists the ids of all processes in the group and groups inside it.
func (g *Group) Processes() ([]int, error) {
	dir, ok := g.procsDir()
	if !ok {
		return nil, fmt.Errorf("list of processes: %w", ErrController)
	}
	var pids []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) && path != dir {
				return nil
			}
			return err
		}
		b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil && len(pids) < maxProcesses {
				pids = append(pids, pid)
			}
		}
		if errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return pids, err
}

// KillAll sends SIGKILL to every process of the group, also to those that are
// just being forked. A group that was removed meanwhile has none.
func (g *Group) KillAll() error {
	if g.V2 != "" {
		if err := write(filepath.Join(g.V2, "cgroup.kill"), "1"); err == nil && g.Unified {
			return nil
		}
	}
	// A frozen group cannot fork; killed processes end once it thaws.
	frozen := g.setFrozen(true) == nil
	pids, err := g.Processes()
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
	if frozen {
		err = errors.Join(err, g.setFrozen(false))
	}
	if errors.Is(err, fs.ErrNotExist) && !g.exists() {
		return nil
	}
	return err
}

func (g *Group) setFrozen(on bool) error {
	if dir, ok := g.dir("freezer"); ok {
		return write(filepath.Join(dir, "freezer.state"), map[bool]string{true: "FROZEN", false: "THAWED"}[on])
	}
	if g.V2 == "" {
		return fmt.Errorf("freezer: %w", ErrController)
	}
	return write(filepath.Join(g.V2, "cgroup.freeze"), map[bool]string{true: "1", false: "0"}[on])
}

// freezeTries bounds the wait for a group to stand still: about two seconds.
const freezeTries = 200

// Freeze stops all processes of the group, or lets them go on.
func (g *Group) Freeze(ctx context.Context, on bool) error {
	if !on {
		return g.setFrozen(false)
	}
	for i := range freezeTries {
		if err := g.setFrozen(true); err != nil {
			return err
		}
		if still, err := g.Stands(); err != nil || still {
			return err
		}
		select {
		case <-ctx.Done():
			g.setFrozen(false)
			return ctx.Err()
		case <-time.After(min(100*time.Microsecond<<min(i, 7), 10*time.Millisecond)):
		}
	}
	g.setFrozen(false)
	return errors.New("cgroup does not freeze: a process is stuck in the kernel")
}

// Stands reports whether every process of the group has stopped, and those would that come
// into it: the group is frozen, or one above it.
func (g *Group) Stands() (bool, error) {
	if g.FreezerDir() == "" {
		return false, nil
	}
	if dir, ok := g.dir("freezer"); ok {
		b, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return strings.TrimSpace(string(b)) == "FROZEN", err
	}
	b, err := os.ReadFile(filepath.Join(g.V2, "cgroup.events"))
	return strings.Contains(string(b), "frozen 1"), err
}

// Frozen reports whether the group was told to stop.
func (g *Group) Frozen() bool {
	if dir, ok := g.dir("freezer"); ok {
		b, _ := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return strings.HasPrefix(string(b), "FR")
	}
	if g.V2 == "" {
		return false
	}
	b, _ := os.ReadFile(filepath.Join(g.V2, "cgroup.freeze"))
	return strings.HasPrefix(string(b), "1")
}

// Events is a file that tells when a process of the group may have been killed for
// want of memory. OOMKills counts them.
type Events struct {
	// File is the descriptor to wait on.
	File *os.File
	// Ready are the events of poll(2) to wait for.
	Ready int16
}

// Drain makes the next event visible. It fails when the group is gone.
func (e *Events) Drain() error {
	var buf [4096]byte
	fd := int(e.File.Fd())
	var err error
	if e.Ready == unix.POLLPRI {
		_, err = unix.Pread(fd, buf[:], 0) // reading the file is what resets it
	} else if _, err = unix.Read(fd, buf[:]); err == unix.EAGAIN {
		err = nil
	}
	return err
}

// OOMEvents opens the group's events. On version 2 that is memory.events itself,
// as the number of inotify instances is limited for each user.
func (g *Group) OOMEvents() (*Events, error) {
	if g.Unified {
		f, err := openRaw(filepath.Join(g.V2, "memory.events"), unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return nil, fmt.Errorf("memory events: %w", err)
		}
		return &Events{File: f, Ready: unix.POLLPRI}, nil
	}
	dir, ok := g.dir("memory")
	if !ok {
		return nil, fmt.Errorf("memory events: %w", ErrController)
	}
	control, err := openRaw(filepath.Join(dir, "memory.oom_control"), unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%d %d", fd, control.Fd())
	if err := write(filepath.Join(dir, "cgroup.event_control"), line); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Events{File: os.NewFile(uintptr(fd), "eventfd"), Ready: unix.POLLIN}, nil
}

// OOMKills counts the processes killed for want of memory, where the kernel counts.
func (g *Group) OOMKills() uint64 {
	if g.Unified {
		return readKeys(filepath.Join(g.V2, "memory.events"))["oom_kill"]
	}
	dir, _ := g.dir("memory")
	return readKeys(filepath.Join(dir, "memory.oom_control"))["oom_kill"]
}

// FreezerDir is the directory by which the group is stopped; empty if there is none.
func (g *Group) FreezerDir() string {
	if dir, ok := g.dir("freezer"); ok {
		return dir
	}
	return g.V2
}
