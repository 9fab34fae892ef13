package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/network/namespace"
	"github.com/orlop/orlop/network/rtnl"
)

// ready keeps namespaces that nobody uses yet, since the kernel needs a millisecond
// for one. They have no names: those of a daemon that ends go with it.
type ready struct {
	report func(error)
	spaces chan *os.File
	wanted chan struct{}
	end    chan struct{}
	work   sync.WaitGroup
}

func newReady(n int, report func(error)) *ready {
	r := &ready{report: report, spaces: make(chan *os.File, n), wanted: make(chan struct{}, 1), end: make(chan struct{})}
	if n > 0 {
		r.wanted <- struct{}{}
		r.work.Go(r.run)
	}
	return r
}

// run fills the channel whenever one was taken.
func (r *ready) run() {
	for {
		select {
		case <-r.end:
			return
		case <-r.wanted:
		}
		for len(r.spaces) < cap(r.spaces) {
			f, err := newNamespace()
			if err != nil {
				r.report(err)
				break
			}
			r.spaces <- f
		}
	}
}

func (r *ready) close() {
	close(r.end)
	r.work.Wait()
	for len(r.spaces) > 0 {
		(<-r.spaces).Close()
	}
}

// take returns a namespace, a ready one if there is one.
func (r *ready) take() (*os.File, error) {
	select {
	case f := <-r.spaces:
		select {
		case r.wanted <- struct{}{}:
		default:
		}
		return f, nil
	default:
		return newNamespace()
	}
}

// settings are what containers find in a namespace: they may listen on every port
// and send echo requests without being root, as in Docker's. Nobody else is in it.
var settings = map[string]string{"ipv4/ip_unprivileged_port_start": "0", "ipv4/ping_group_range": "0\t2147483647"}

// newNamespace makes a namespace with its loopback up. A thread that can't return is
// never unlocked, and ends.
func newNamespace() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- result{nil, fmt.Errorf("own network namespace: %w", err)}
			return
		}
		defer unix.Close(home)
		var f *os.File
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			f, err = prepare()
		}
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- result{f, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("new network namespace: %w", r.err)
	}
	return r.f, nil
}

// prepare sets the thread's namespace up and opens it.
func prepare() (*os.File, error) {
	rt, err := rtnl.Open(nil)
	if err != nil {
		return nil, err
	}
	err = errors.Join(rt.Do(rtnl.SetLink(rtnl.Link{Index: 1, Name: "lo", Up: true})), rt.Close())
	for name, value := range settings {
		serr := namespace.Sysctl(name, value, true)
		if errors.Is(serr, unix.EINVAL) { // a user namespace has fewer groups: its root's at the least
			serr = namespace.Sysctl(name, "0\t0", true)
		}
		err = errors.Join(err, serr)
	}
	if err != nil {
		return nil, err
	}
	return os.Open("/proc/thread-self/ns/net")
}
