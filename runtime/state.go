package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/orlop/orlop/runtime/cgroup"
	"github.com/orlop/orlop/runtime/seccomp"
	"golang.org/x/sys/unix"
)

// record is what is kept on disk about a container: enough to find it again and
// to run more programs in it.
type record struct {
	ID          string                 `json:"id"`
	Bundle      string                 `json:"bundle"`
	PID         int                    `json:"pid"`
	StartTime   uint64                 `json:"startTime"` // of the process, against reuse of its id
	Created     time.Time              `json:"created"`
	Group       *cgroup.Group          `json:"group"`
	Annotations map[string]string      `json:"annotations,omitempty"`
	Hooks       *specs.Hooks           `json:"hooks,omitempty"`
	Namespaces  []string               `json:"namespaces,omitempty"` // kinds that are not the host's
	UIDs        []specs.LinuxIDMapping `json:"uids,omitempty"`
	GIDs        []specs.LinuxIDMapping `json:"gids,omitempty"`
	Seccomp     *seccomp.Profile       `json:"seccomp,omitempty"`
	Personality *uint64                `json:"personality,omitempty"`
	Process     *specs.Process         `json:"process,omitempty"` // defaults for exec from the command line
	Version     string                 `json:"ociVersion"`
	Started     bool                   `json:"-"`
	CanPtrace   bool                   `json:"canPtrace,omitempty"` // a process may trace others of its pid namespace
	Rootfs      string                 `json:"rootfs,omitempty"`
	Systemd     bool                   `json:"systemd,omitempty"`
	Restored    bool                   `json:"restored,omitempty"` // from a checkpoint: stopped until its start
}

// Files in a container's state directory.
const (
	recordFile = "state.json"
	gateFile   = "exec.fifo"
	freshFile  = "fresh" // the control group was not there before
)

// maxRecord bounds what is read back.
const maxRecord = 16 << 20

// save writes the record so that a reader sees the old one or the new one.
func (rec *record) save(dir string) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, recordFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, recordFile))
}

func readRecord(dir string) (*record, error) {
	rec := &record{}
	err := readJSON(filepath.Join(dir, recordFile), rec)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return rec, nil
}

// readJSON reads what was written as JSON, of a bounded size.
func readJSON(name string, into any) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	if st.Size() > maxRecord {
		return fmt.Errorf("%s: too large", name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// startTime is when a process began, in clock ticks since boot; zero if it is gone.
func startTime(pid int) (uint64, byte) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0
	}
	// The name in parentheses may contain anything; state is the first field
	// behind it, the start time the twentieth.
	i := strings.LastIndexByte(string(b), ')')
	if i < 0 {
		return 0, 0
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return 0, 0
	}
	v, _ := strconv.ParseUint(f[19], 10, 64)
	return v, f[0][0]
}

// Status is a phase of a container's life.
type Status string

// The phases; paused is not one of the specification, but every caller expects it.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Stopped Status = "stopped"
)

// waits reports whether a container still waits for Start: its gate is there.
func waits(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(dir, gateFile), &st) == nil
}

// namespaceMates lists the processes in the pid namespace of a process.
func namespaceMates(pid int) ([]int, error) {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	var pids []int
	for _, name := range names {
		if ns, err := os.Readlink(name); err == nil && ns == own {
			n, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, n)
		}
	}
	return pids, err
}
