package scale

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// left is what containers take beside memory.
type left map[string]int

// count looks at all of it.
func (r *rig) count() left {
	r.api.Close() // its connections would count
	pid := r.daemon.Process.Pid
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	out := left{"descriptors": len(fds), "goroutines": r.goroutines()}
	mounted, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	out["mounts"] = strings.Count(string(mounted), r.dir)
	out["links"] = lines("ip", "-o", "link")
	out["rules"] = lines("nft", "list", "ruleset")
	out["namespaces"] = len(r.files("state", "io.orlop.networks.v1.local", "ns"))
	out["folders"] = len(r.files("root", "io.orlop.engine.v1.local", "containers"))
	out["bundles"] = len(r.files("state", "io.containerd.runtime.v2.task", "default"))
	out["shims"] = len(r.shims())
	out["groups"] = r.groups()
	out["snapshots"] = strings.Count(r.must(r.path("bin", "orlopctl"), "-a", r.path("state", "orlopd.sock"), "snapshots", "ls"), " active ")
	return out
}

func (r *rig) files(parts ...string) []os.DirEntry {
	list, _ := os.ReadDir(r.path(parts...))
	return list
}

func lines(name string, args ...string) int {
	out, _ := exec.Command(name, args...).Output()
	return strings.Count(string(out), "\n")
}

// groups counts the control groups of containers that were made here.
func (r *rig) groups() int {
	n := 0
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && r.made[d.Name()] {
			n++
			return filepath.SkipDir
		}
		return nil
	})
	return n
}

// shims are the processes of the daemon's shims.
func (r *rig) shims() []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, _ := os.ReadFile(path)
		if strings.HasPrefix(string(line), r.path("bin", "containerd-shim")) {
			var pid int
			fmt.Sscanf(path, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

// settleWait bounds the wait for what is freed in the background.
const settleWait = 30 * time.Second

// sameAs waits until there is no more of anything than before.
func (r *rig) sameAs(before left, slack map[string]int) {
	r.t.Helper()
	var more []string
	for began := time.Now(); time.Since(began) < settleWait; time.Sleep(200 * time.Millisecond) {
		more = nil
		for what, n := range r.count() {
			if n > before[what]+slack[what] {
				more = append(more, fmt.Sprintf("%d %s, %d before", n, what, before[what]))
			}
		}
		if more == nil {
			return
		}
	}
	r.t.Errorf("left: %s", strings.Join(more, "; "))
}

// memory is the proportional set size of processes, in KiB.
func memory(pids ...int) int {
	total := 0
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(data)) {
			var n int
			if _, err := fmt.Sscanf(line, "Pss: %d kB", &n); err == nil {
				total += n
			}
		}
	}
	return total
}
