package build

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"

	networks "github.com/orlop/orlop/services/network"
)

// BuildKit knows three networks: its default, the host's and none. That a build wants
// another is carried from its attributes to its steps in the name of the control group's
// parent, which is the one word that the graph takes along unread.
const (
	attrNetwork = "force-network-mode"
	attrCgroup  = "cgroup-parent"
	netMark     = "orlop-network:"
)

// chooser is a frontend whose builds may name any network.
type chooser struct {
	frontend.Frontend
	networks *networks.Service
}

// Solve hides the network's name from the frontend.
func (f chooser) Solve(ctx context.Context, llb frontend.FrontendLLBBridge, exec executor.Executor, opt map[string]string, inputs map[string]*pb.Definition, sid string, sm *session.Manager) (*frontend.Result, error) {
	switch name := opt[attrNetwork]; name {
	case "", "default", "sandbox", "none", "host":
	default:
		if err := f.check(name); err != nil {
			return nil, err
		}
		opt = maps.Clone(opt)
		delete(opt, attrNetwork)
		opt[attrCgroup] = netMark + name + "\n" + opt[attrCgroup]
	}
	return f.Frontend.Solve(ctx, llb, exec, opt, inputs, sid, sm)
}

// check wants the network to be there.
func (f chooser) check(name string) error {
	if strings.HasPrefix(name, "container:") || f.networks == nil || strings.Contains(name, "\n") {
		return fmt.Errorf("network mode %q is not supported by builds: use a network's name, default, none or host: %w", name, errdefs.ErrNotImplemented)
	}
	_, err := f.networks.Find(name)
	return err
}

// networkKey is the context's key of the network that a step is to be connected to.
type networkKey struct{}

// connecting is an executor that tells the step's network to what makes it, and shows
// the step what its users see.
type connecting struct {
	executor.Executor
	remap *remapper
}

// Run runs a step.
func (e connecting) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	if rest, ok := strings.CutPrefix(process.Meta.CgroupParent, netMark); ok {
		name, parent, _ := strings.Cut(rest, "\n")
		process.Meta.CgroupParent = parent
		ctx = context.WithValue(ctx, networkKey{}, name)
	}
	root, mounts = e.remap.step(root, mounts, process.Meta.Cwd)
	return e.Executor.Run(ctx, id, root, mounts, process, started)
}

// networkOf is what a step is to be connected to.
func networkOf(ctx context.Context) string {
	if name, ok := ctx.Value(networkKey{}).(string); ok {
		return name
	}
	return defaultNetwork
}
