package build

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mounts are the mount points below the rig's folder, or of something that is there,
// the last mounted first.
func (r *rig) mounts() []string {
	data, _ := os.ReadFile("/proc/self/mounts")
	var found []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.Contains(line, r.dir) && !strings.HasSuffix(f[1], "/shims") {
			found = append(found, f[1])
		}
	}
	slices.Reverse(found)
	return found
}

// left is what builds that have ended should not have: mounts, run folders, control
// groups, network namespaces, and processes in the rig's trees.
func (r *rig) left() []string {
	var found []string
	for _, m := range r.mounts() {
		if !strings.HasSuffix(m, "/ready") {
			found = append(found, "mount "+m)
		}
	}
	state := r.path("state", "io.orlop.builder.v1.buildkit")
	for _, pattern := range []string{filepath.Join(state, "run", "*"), filepath.Join(state, "mounts", "*"), r.path("root", "tmp", "*"), r.path("state", "*", "ns", "*"), r.path("state", "*", "sandboxes", "*")} {
		list, _ := filepath.Glob(pattern)
		for _, path := range list {
			if !slices.Contains([]string{"hosts", "resolv.conf", "runc-log.json", "resolv-host.conf"}, filepath.Base(path)) && !forgotten(path) {
				found = append(found, path)
			}
		}
	}
	return append(found, r.steps()...)
}

// steps are processes that run in a step of a build of the rig's daemon.
func (r *rig) steps() []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		line, _ := os.ReadFile(p + "/cmdline")
		group, _ := os.ReadFile(p + "/cgroup")
		space, _ := os.ReadFile(p + "/mountinfo")
		ours := bytes.Contains(space, []byte(r.dir)) || bytes.Contains(line, []byte(r.dir))
		if ours && bytes.Contains(group, []byte("/build/")) {
			found = append(found, "process "+filepath.Base(p)+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// forgotten is an empty folder that BuildKit leaves where a mount was to be and a copy
// fails, or where the socket of an agent was; the daemon sweeps it a minute later.
func forgotten(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0 && (strings.HasPrefix(filepath.Base(path), "buildkit-mount") || strings.HasPrefix(filepath.Base(path), ".buildkit-ssh-sock"))
}
