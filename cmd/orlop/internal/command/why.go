package command

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/orlop/orlop/cmd/internal/session"
)

// whyLines is how much of the log is shown.
const whyLines = "10"

func whyCommand(s *session.Session) *cobra.Command {
	return &cobra.Command{Use: "why CONTAINER", Short: "Say what keeps a container from running well", Args: usage(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := s.Engine()
			if err != nil {
				return err
			}
			found, err := e.ContainerInspect(c.Context(), args[0], client.ContainerInspectOptions{})
			if err != nil {
				return err
			}
			said, lines := diagnosis(found.Container, time.Now())
			s.Printf("%s\n", said)
			for _, l := range lines {
				s.Printf("  - %s\n", l)
			}
			return lastOutput(c.Context(), s, e, found.Container)
		}}
}

// diagnosis says in a sentence how the container is, and what is known of the reason.
func diagnosis(c container.InspectResponse, now time.Time) (string, []string) {
	st := c.State
	name := strings.TrimPrefix(c.Name, "/")
	var why []string
	if st.Error != "" {
		why = append(why, "it could not be started: "+st.Error)
	}
	if st.OOMKilled {
		why = append(why, oomReason(c))
	}
	if h := st.Health; h != nil && h.Status == container.Unhealthy && h.FailingStreak > 0 {
		why = append(why, healthReason(h))
	}
	if st.Paused {
		return fmt.Sprintf("%s is paused: `orlop unpause %s` lets it go on.", name, name), why
	}
	if st.Running && !st.Restarting {
		if len(why) == 0 {
			return fmt.Sprintf("%s runs, since %s; nothing is known to be wrong with it.", name, age(st.StartedAt, now)), nil
		}
		return fmt.Sprintf("%s runs, since %s, but:", name, age(st.StartedAt, now)), why
	}
	if st.Error == "" && strings.HasPrefix(string(st.Status), "created") {
		return fmt.Sprintf("%s has never been started: `orlop start %s` starts it.", name, name), why
	}
	why = append(why, exitReason(c)...)
	why = append(why, restartReason(c)...)
	if st.Restarting {
		return fmt.Sprintf("%s keeps ending and waits to be started again; its last end was %s ago, with code %d:", name, age(st.FinishedAt, now), st.ExitCode), why
	}
	return fmt.Sprintf("%s does not run; it ended %s ago, with code %d:", name, age(st.FinishedAt, now), st.ExitCode), why
}

func age(at string, now time.Time) string {
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || t.Year() < 1970 {
		return "an unknown time"
	}
	return strings.ToLower(units.HumanDuration(now.Sub(t)))
}

func oomReason(c container.InspectResponse) string {
	if c.HostConfig != nil && c.HostConfig.Memory > 0 {
		return fmt.Sprintf("it was out of memory: its limit is %s; raise it with `orlop update --memory …`", units.BytesSize(float64(c.HostConfig.Memory)))
	}
	return "it was out of memory: it has no limit of its own, so the host or a parent cgroup had none left"
}

func healthReason(h *container.Health) string {
	text := fmt.Sprintf("its health check has failed %d times in a row", h.FailingStreak)
	if n := len(h.Log); n > 0 {
		last := h.Log[n-1]
		text += fmt.Sprintf("; the last said, with code %d: %s", last.ExitCode, strings.TrimSpace(last.Output))
	}
	return text
}

// exitReason reads an exit code as shells and the engine give it.
func exitReason(c container.InspectResponse) []string {
	code := c.State.ExitCode
	command := strings.Join(append([]string{c.Path}, c.Args...), " ")
	switch {
	case c.State.Error != "":
		return nil
	case code == 0:
		return []string{"its command ended by itself and reported success: " + command}
	case code == session.CodeNotFound:
		return []string{"code 127 means that a command was not found; the container's is: " + command}
	case code == session.CodeNotExecutable:
		return []string{"code 126 means that a command could not be executed; the container's is: " + command}
	case code == 255:
		return []string{"code 255 is the command's own, or its end was not seen: the host or the daemon was off"}
	case code == 137 && c.State.OOMKilled:
		return nil // said already
	case code > 128 && code < 128+65:
		sig := unix.SignalName(unix.Signal(code - 128))
		return []string{fmt.Sprintf("code %d means that %s ended it: `stop`, `kill`, or somebody else", code, sig)}
	}
	return []string{fmt.Sprintf("its command ended by itself with code %d: %s", code, command)}
}

func restartReason(c container.InspectResponse) []string {
	if c.HostConfig == nil {
		return nil
	}
	p := c.HostConfig.RestartPolicy
	times := ""
	if c.RestartCount > 0 {
		times = fmt.Sprintf(" (it has been restarted %d times)", c.RestartCount)
	}
	switch p.Name {
	case container.RestartPolicyOnFailure:
		if p.MaximumRetryCount > 0 && c.RestartCount >= p.MaximumRetryCount {
			return []string{fmt.Sprintf("it is not started again, since its policy gives up after %d failures", p.MaximumRetryCount)}
		}
		return []string{"its restart policy is on-failure" + times}
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		return []string{fmt.Sprintf("its restart policy is %s%s: if it doesn't come back, it was stopped by hand", p.Name, times)}
	}
	return []string{"it is not started again, since it has no restart policy (`orlop update --restart …`)"}
}

// lastOutput shows the end of the log.
func lastOutput(ctx context.Context, s *session.Session, e *client.Client, c container.InspectResponse) error {
	in, err := e.ContainerLogs(ctx, c.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: whyLines})
	if err != nil {
		s.Printf("Its output can't be shown: %v\n", err)
		return nil
	}
	defer in.Close()
	var out bytes.Buffer
	if c.Config.Tty {
		_, err = out.ReadFrom(in)
	} else {
		_, err = stdcopy.StdCopy(&out, &out, in)
	}
	if err != nil {
		return err
	}
	if out.Len() == 0 {
		s.Printf("It has written nothing.\n")
		return nil
	}
	s.Printf("The end of its output:\n")
	for line := range strings.Lines(strings.TrimRight(out.String(), "\n")) {
		s.Printf("  | %s\n", strings.TrimRight(line, "\r\n"))
	}
	return nil
}
