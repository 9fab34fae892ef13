// Package userns makes user namespaces that no process is in: to say how the owners
// of files are shifted, and to own the namespaces of a container that is about to be
// made.
//
// A process that has more than one thread can't make one for itself. So a child is
// cloned into it, its ids are mapped, and it is stopped before the first instruction
// of a program (as a debugger does it): nothing ever runs in there, its namespaces
// are opened, and it is killed. All functions are safe for concurrent use. A process
// that is killed meanwhile leaves nothing: the child goes with its tracer.
package userns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Maps say who is who: ids of the namespace and those of the host.
type Maps struct {
	UIDs, GIDs []specs.LinuxIDMapping
}

// Namespaces are open files of new namespaces.
type Namespaces struct {
	User *os.File
	// Network belongs to User; nil if it wasn't asked for.
	Network *os.File
}

// Close lets them go, unless they are used.
func (n *Namespaces) Close() error {
	err := n.User.Close()
	if n.Network != nil {
		err = errors.Join(err, n.Network.Close())
	}
	return err
}

// New makes a user namespace, and with network a network namespace that it owns.
func New(m Maps, network bool) (*Namespaces, error) {
	type result struct {
		made *Namespaces
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // the tracer is a thread
		defer runtime.UnlockOSThread()
		made, err := clone(m, network)
		done <- result{made, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("user namespace: %w", r.err)
	}
	return r.made, nil
}

func clone(m Maps, network bool) (*Namespaces, error) {
	attr := &syscall.SysProcAttr{
		Ptrace: true, Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: sysMaps(m.UIDs), GidMappings: sysMaps(m.GIDs), GidMappingsEnableSetgroups: true,
	}
	if network {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	const program = "/proc/self/exe"
	pid, err := syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{Sys: attr})
	if err != nil {
		return nil, err
	}
	defer end(pid)
	n := &Namespaces{}
	if n.User, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil {
		return nil, err
	}
	if !network {
		return n, nil
	}
	if n.Network, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// end kills the child and collects it; its stop may be told before its end.
func end(pid int) {
	unix.Kill(pid, unix.SIGKILL)
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == nil && status.Stopped() || err == unix.EINTR {
			continue
		}
		return
	}
}

func sysMaps(list []specs.LinuxIDMapping) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(list))
	for i, m := range list {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return out
}
