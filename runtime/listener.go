package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// agentPatience is how long a seccomp agent may take to accept a listener.
const agentPatience = 10 * time.Second

// offerListener takes the child's seccomp listener and hands it to the agent that
// the configuration names, before the program runs.
func (c *Container) offerListener(child *child) error {
	pidfd, err := unix.PidfdOpen(child.pid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	f, err := child.takeListener(pidfd)
	if err != nil {
		return err
	}
	defer f.Close()
	state := specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: child.pid(),
		Metadata: c.rec.Seccomp.Config.ListenerMetadata, State: *c.State()}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("unix", c.rec.Seccomp.Config.ListenerPath, agentPatience)
	if err != nil {
		return fmt.Errorf("seccomp agent: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(agentPatience))
	if _, _, err := conn.(*net.UnixConn).WriteMsgUnix(b, unix.UnixRights(int(f.Fd())), nil); err != nil {
		return fmt.Errorf("seccomp agent: %w", err)
	}
	return nil
}

func withSeconds(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(n)*time.Second)
}
