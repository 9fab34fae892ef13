package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
)

// defaultRuntime is the one that clients use by default.
const defaultRuntime = "io.containerd.runc.v2"

// Info asks a runtime's shim program what it is and can do (its flag -info). The
// request's path may be a runtime's name or a program's; none is the default. A
// program that doesn't know the flag is NotImplemented.
func (m *Manager) Info(ctx context.Context, req *types.RuntimeRequest) (*types.RuntimeInfo, error) {
	name := req.RuntimePath
	if name == "" {
		name = defaultRuntime
	}
	r, err := m.runtime(name)
	if err != nil {
		return nil, err
	}
	binary, err := findShim(r.Shim)
	if err != nil {
		return nil, err
	}
	var stdin []byte
	if req.Options != nil {
		if stdin, err = proto.Marshal(req.Options); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-info")
	cmd.Env, cmd.Stdin, cmd.WaitDelay = shimEnv(m.address), bytes.NewReader(stdin), time.Second
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("%s -info: %w: %.200s: %w", filepath.Base(binary), err, bytes.TrimSpace(exit.Stderr), errdefs.ErrNotImplemented)
	}
	if err != nil {
		return nil, fmt.Errorf("%s -info: %w", filepath.Base(binary), err)
	}
	info := &types.RuntimeInfo{}
	if err := proto.Unmarshal(out, info); err != nil {
		return nil, fmt.Errorf("answer of %s -info: %w", filepath.Base(binary), err)
	}
	return info, nil
}
