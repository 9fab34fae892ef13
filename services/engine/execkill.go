package engine

import (
	"context"

	"github.com/containerd/errdefs"
)

// KillExec sends a signal to the process of an exec, SIGKILL if none is named.
func (e *Engine) KillExec(ctx context.Context, id, signal string) error {
	x, err := e.execution(id)
	if err != nil {
		return err
	}
	sig, err := parseSignal(signal, "SIGKILL")
	if err != nil {
		return err
	}
	if !x.isRunning() {
		return conflict("exec %s is not running", id)
	}
	err = e.killExec(e.detached(ctx), x, sig)
	if errdefs.IsNotFound(err) {
		return conflict("exec %s is not running", id)
	}
	return err
}
