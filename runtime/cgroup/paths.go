package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ownPaths maps each controller to the path of /proc/*/cgroup; version 2 is "".
func ownPaths(file string) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			out[c] = f[2]
		}
	}
	return out, nil
}

// place is where a path is in a hierarchy, and its name there. A relative one begins at
// the group of this process.
func place(mount, own, path string) (dir, rel string) {
	rel = filepath.Clean("/" + path)
	if !strings.HasPrefix(path, "/") {
		if strings.HasPrefix(own, "/..") {
			own = "/" // seen from a cgroup namespace
		}
		rel = filepath.Join("/", own, rel)
	}
	return filepath.Join(mount, rel), rel
}

// Of finds the group that a process is in, where another runtime has made it.
func (h *Host) Of(pid int) (*Group, error) {
	paths, err := ownPaths(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	g := &Group{Unified: h.Unified()}
	for _, v := range h.V1 {
		if path, ok := paths[v.Controllers[0]]; ok {
			g.V1 = append(g.V1, Hierarchy{Dir: filepath.Join(v.Dir, path), Controllers: v.Controllers})
			g.Path = path
		}
	}
	if path, ok := paths[""]; ok && h.V2 != "" {
		g.V2 = filepath.Join(h.V2, path)
		if g.Unified {
			g.Path = path
		}
	}
	return g, nil
}

// Paths are the group's paths as /proc/PID/cgroup shows them, by hierarchy: its
// controllers or name, joined by commas; empty for the unified one.
func (h *Host) Paths(g *Group) map[string]string {
	paths := map[string]string{}
	for _, v := range g.V1 {
		for _, top := range h.V1 {
			if slices.Equal(top.Controllers, v.Controllers) {
				paths[strings.Join(v.Controllers, ",")] = below(top.Dir, v.Dir)
			}
		}
	}
	if g.V2 != "" {
		paths[""] = below(h.V2, g.V2)
	}
	return paths
}

func below(top, dir string) string { return filepath.Join("/", strings.TrimPrefix(dir, top)) }
