package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/runtime"
)

// exit is how a process ended.
type exit struct {
	code uint32 // as a shell says it: 128 + the signal's number for a killed one
	at   time.Time
}

// stdio are the files a process gets; nil is /dev/null.
type stdio struct{ in, out, err *os.File }

// creation says what container to make.
type creation struct {
	key
	bundle   string
	rootfs   []mount.Mount // empty: the spec names a folder that is there
	std      stdio
	terminal bool
	// checkpoint is the folder of one to restore; empty makes the program anew.
	checkpoint string
}

// running is a process that a runtime has made.
type running interface {
	pid() int
	// console is the terminal's master; nil without one. It is the caller's.
	console() *os.File
	// wait returns when the process has ended.
	wait() exit
	// kill sends a signal to this process alone.
	kill(unix.Signal) error
	// release frees what is held for an ended process.
	release()
}

// box is a container in the hands of a runtime: the embedded one or a program.
// Its running is the first process. Errors have errdefs' classes.
type box interface {
	running
	start(ctx context.Context) error
	exec(ctx context.Context, id string, spec []byte, terminal bool, std stdio) (running, error)
	killAll(ctx context.Context, sig unix.Signal, all bool) error
	pause(ctx context.Context) error
	resume(ctx context.Context) error
	update(ctx context.Context, resources []byte) error
	pids(ctx context.Context) ([]uint32, error)
	// checkpoint writes the processes into a folder.
	checkpoint(ctx context.Context, dir string, o *options.CheckpointOptions) error
	// stats is a message of containerd's cgroup metrics.
	stats() (any, error)
	// onOOM calls f when a process may have been killed for want of memory, until stop.
	onOOM(f func()) (stop func(), err error)
	// oomKills counts those processes.
	oomKills() uint64
	// remove deletes an ended container.
	remove(ctx context.Context) error
}

// classes maps the runtime's errors to those that cross the wire.
var classes = []struct{ is, class error }{
	{runtime.ErrNotFound, errdefs.ErrNotFound},
	{runtime.ErrExists, errdefs.ErrAlreadyExists},
	{runtime.ErrInvalidSpec, errdefs.ErrInvalidArgument},
	{runtime.ErrUnsupported, errdefs.ErrNotImplemented},
	{runtime.ErrState, errdefs.ErrFailedPrecondition},
}

func classify(err error) error {
	if errors.Is(err, runtime.ErrCommandNotFound) || errors.Is(err, runtime.ErrCommandNotExecutable) {
		// Clients tell these by their words; a class would be sent as words, too.
		return errors.New(err.Error())
	}
	for _, c := range classes {
		if errors.Is(err, c.is) {
			return fmt.Errorf("%w: %w", err, c.class)
		}
	}
	return err
}

// finished is the class that clients expect of a signal to an ended process.
func finished(err error) error {
	if errors.Is(err, runtime.ErrState) || errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process already finished: %w: %w", err, errdefs.ErrNotFound)
	}
	return classify(err)
}
