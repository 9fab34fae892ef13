package bridge

import (
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// janitor removes interfaces. The kernel unlinks one at once and then waits, some
// 20 ms, for all processors to have seen it: nobody else need wait for that. Those
// that come meanwhile are removed together, which costs as much as one.
type janitor struct {
	ns     *namespace.Namespace
	report func(error)
	work   sync.WaitGroup

	mu      sync.Mutex
	queue   []string
	running int
}

const (
	// doomed is the group of interfaces that are being removed; nobody else is
	// likely to have chosen it.
	doomed = 0x0d00_31ed
	// janitors is how many wait for the kernel side by side.
	janitors = 4
)

// remove has an interface removed.
func (j *janitor) remove(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queue = append(j.queue, name)
	if j.running < janitors {
		j.running++
		j.work.Go(j.run)
	}
}

// take takes all that is to be done; nil ends the janitor that asked.
func (j *janitor) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	names := j.queue
	j.queue = nil
	if len(names) == 0 {
		j.running--
	}
	return names
}

func (j *janitor) run() {
	rt, err := rtnl.Open(j.ns)
	if err != nil {
		j.report(err)
		for j.take() != nil { // what stays carries our mark: the next Reconcile finds it
		}
		return
	}
	defer rt.Close()
	for names := j.take(); names != nil; names = j.take() {
		messages := make([]rtnl.Message, 0, len(names)+1)
		for _, name := range names {
			messages = append(messages, rtnl.SetLink(rtnl.Link{Name: name, Group: doomed}).Unless(unix.ENODEV))
		}
		// Another janitor may have taken the whole group.
		if err := rt.Do(append(messages, rtnl.DelGroup(doomed).Unless(unix.ENODEV))...); err != nil {
			j.report(err)
		}
	}
}

// removeLink removes an endpoint's interface. It returns when it is gone from a
// sandbox that lives on; one that has ended takes it along anyway.
func (d *Driver) removeLink(name, sandbox string) {
	d.janitor.remove(name)
	ns, err := namespace.Open(sandbox)
	if err != nil {
		return
	}
	ns.Close()
	for range 5000 { // a second: the janitor reports what it can't do
		if _, err := d.rt.Link(name); errdefs.IsNotFound(err) {
			return
		}
		time.Sleep(200 * time.Microsecond)
	}
}
