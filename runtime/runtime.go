// Package runtime is the OCI runtime of Orlop: it makes, runs and removes
// containers as the OCI runtime specification describes them.
//
// It is embedded in the shim and is all of cmd/orlop-runtime. No program of ours
// runs inside a container: the parent writes down every system call of the new
// process beforehand and a child walks the list (package table).
//
// # Lifecycle
//
// Create makes a container whose process has everything but its program; Start
// lets it execute that; Wait tells how it ended; Delete removes what is left.
// Load finds a container again by the state on disk, also when the process that
// made it is gone: its first process is then watched by a pidfd.
//
// # Concurrency
//
// All methods may be called by many goroutines. Ends of processes are watched by
// one goroutine per Runtime. Locks: Container.mu is above Runtime.mu; neither is
// held while waiting for a process.
//
// A program that embeds this package must leave its children to it: no wait4(-1).
// Open makes the process non-dumpable, as children share its memory for a moment.
//
// # What survives a crash
//
// The state directory (on tmpfs) with one file per container, written before
// Create returns; containers themselves, created or running. A reboot ends both.
package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/orlop/orlop/runtime/cgroup"
	"golang.org/x/sys/unix"
)

// Options are the choices of a runtime; the zero value is good.
type Options struct {
	// SystemdCgroup asks systemd for control groups instead of making them.
	SystemdCgroup bool
	// Detached makes containers that outlive this process while they wait for
	// Start: the child gets a copy of our memory instead of sharing it. It is for
	// command lines, which end between create and start; it costs some time in
	// processes with large heaps.
	Detached bool
	// LeaveEnded leaves ended processes to be collected by whoever becomes their
	// parent when this process ends. It is for command lines that detach.
	LeaveEnded bool
	// Warn is told what could not be had but was not essential; nil ignores it.
	Warn func(id, message string)
	// NoNewKeyring lets containers keep our session keyring.
	NoNewKeyring bool
}

// Runtime makes and finds containers.
type Runtime struct {
	root    string
	options Options
	host    *cgroup.Host
	ownPID  *os.File // our own pid namespace
	watch   watcher

	mu         sync.Mutex
	containers map[string]*Container // those that this process made or loaded
}

// Open makes a runtime that keeps its state below root, which it makes if needed
// and which must be root's alone.
func Open(root string, options Options) (*Runtime, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o066 != 0 {
		return nil, fmt.Errorf("state directory %s: must be ours alone (0711 or stricter), is %#o of user %d", root, st.Mode&0o7777, st.Uid)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("make the process non-dumpable: %w", err)
	}
	host, err := cgroup.Detect()
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	ns, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	r := &Runtime{root: root, options: options, host: host, ownPID: ns, containers: map[string]*Container{}}
	r.watch.leave = options.LeaveEnded
	return r, nil
}

// Close stops watching. Containers go on.
func (r *Runtime) Close() error {
	r.watch.close()
	return r.ownPID.Close()
}

func (r *Runtime) warn(id string, list []string) {
	if r.options.Warn == nil {
		return
	}
	for _, m := range list {
		r.options.Warn(id, m)
	}
}

// ErrID says that a container id is not acceptable.
var ErrID = errors.New(`container id may have letters, digits, "_", "+", "-" and "." only`)

// maxID is the longest id, which also is a file name.
const maxID = 255

func checkID(id string) error {
	const others = "_+-."
	ok := id != "" && len(id) <= maxID && id != "." && id != ".."
	for _, c := range id {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || strings.ContainsRune(others, c))
	}
	if !ok {
		return fmt.Errorf("%q: %w", id, ErrID)
	}
	return nil
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.root, id) }

// List loads all containers. One that cannot be read is left out, and reported
// in the error.
func (r *Runtime) List() ([]*Container, error) {
	entries, err := os.ReadDir(r.root)
	if err != nil {
		return nil, err
	}
	var out []*Container
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		c, err := r.Load(e.Name())
		switch {
		case err == nil:
			out = append(out, c)
		case !errors.Is(err, ErrNotFound):
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// StateDir is where the state of a container is kept.
func (r *Runtime) StateDir(id string) string { return r.dir(id) }
