package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Reboot takes from a daemon that has ended what a machine that starts again takes: its
// shims and containers die at once, their control groups and mounts go, and the state
// folder is empty. The daemon's folder is dir, with its state in "state"; ids are the
// containers that ran.
func Reboot(dir string, ids []string) error {
	Kill(processesOf(dir))
	for _, id := range ids {
		if err := dropGroups(id); err != nil {
			return err
		}
	}
	if err := dropMounts(dir); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "state"))
}

// processesOf finds the shims of a daemon, and what they have started.
func processesOf(dir string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	parents := map[int]int{}
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		stat, _ := os.ReadFile(name + "/stat")
		if _, rest, ok := bytes.Cut(stat, []byte(") ")); ok {
			parents[pid], _ = strconv.Atoi(string(bytes.Fields(rest)[1]))
		}
		line, _ := os.ReadFile(name + "/cmdline")
		if bytes.Contains(line, []byte("containerd-shim-orlop-v1")) && bytes.Contains(line, []byte(dir+"/")) {
			pids = append(pids, pid)
		}
	}
	for i := 0; i < len(pids); i++ {
		for pid, parent := range parents {
			if parent == pids[i] {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Kill kills processes and waits until they are gone.
func Kill(pids []int) {
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
	for range 200 {
		if !slices.ContainsFunc(pids, func(pid int) bool { return unix.Kill(pid, 0) == nil }) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// dropGroups removes the control groups of a container that is dead.
func dropGroups(id string) error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
			os.Remove(path)
			return filepath.SkipDir
		}
		return nil
	})
}

func dropMounts(dir string) error {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(string(data)))
	for _, line := range slices.Backward(lines) {
		if target := strings.Fields(line)[1]; strings.HasPrefix(target, dir+"/") {
			if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
				return err
			}
		}
	}
	return nil
}
