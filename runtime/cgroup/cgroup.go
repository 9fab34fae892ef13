// Package cgroup makes, limits, reads and removes the control groups of
// containers, on version 1, hybrid and version 2 hosts.
//
// A Host knows where hierarchies are mounted and is found out once. A Group is
// one path in all of them. Processes are not moved in by id: the new process
// joins itself through the files of Join, as writing a foreign id to
// cgroup.procs takes a global lock that waits for an RCU grace period.
//
// Every controller may be missing. A limit that needs a missing one is an error;
// a mere preference (weights, reservations) is a warning.
//
// Hosts and groups are immutable after creation, so all methods may be called
// concurrently. Groups survive a crash: a Group is plain data that can be kept.
//
// Where systemd is to make groups, Scope asks it over D-Bus. Its scopes need a
// process to begin with: the new process waits meanwhile and does nothing else.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrController says that the host lacks a controller that a limit needs.
var ErrController = errors.New("cgroup controller is not available")

// Hierarchy is one mounted version 1 hierarchy.
type Hierarchy struct {
	// Dir is where it is mounted.
	Dir string `json:"dir"`
	// Controllers are its controllers; a named one without has "name=…".
	Controllers []string `json:"controllers"`
	// Own is this process's path in it.
	Own string `json:"own,omitempty"`
}

// Host is what the machine offers.
type Host struct {
	// V1 are the version 1 hierarchies, none on a pure version 2 host.
	V1 []Hierarchy
	// V2 is where the unified hierarchy is mounted, or empty.
	V2 string
	// OwnV2 is this process's path in it.
	OwnV2 string
}

// Unified reports whether version 2 alone is in use.
func (h *Host) Unified() bool { return len(h.V1) == 0 && h.V2 != "" }

// Detect reads the mount table of this process.
func Detect() (*Host, error) {
	own, err := ownPaths("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := &Host{}
	for s := bufio.NewScanner(f); s.Scan(); {
		h.addMount(s.Text(), own)
	}
	return h, nil
}

// addMount takes a line of mountinfo if it is a whole cgroup hierarchy.
func (h *Host) addMount(line string, own map[string]string) {
	before, after, ok := strings.Cut(line, " - ")
	fields, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(tail) < 3 {
		return
	}
	dir := fields[4]
	switch tail[0] {
	case "cgroup2":
		if h.V2 == "" {
			h.V2, h.OwnV2 = dir, own[""]
		}
	case "cgroup":
		var list []string
		for _, o := range strings.Split(tail[2], ",") {
			if _, ok := own[o]; ok {
				list = append(list, o)
			}
		}
		known := slices.ContainsFunc(h.V1, func(x Hierarchy) bool { return slices.Equal(x.Controllers, list) })
		if len(list) > 0 && !known {
			h.V1 = append(h.V1, Hierarchy{Dir: dir, Controllers: list, Own: own[list[0]]})
		}
	}
}

// Group is one control group.
type Group struct {
	// V1 holds the directory in each version 1 hierarchy.
	V1 []Hierarchy `json:"v1,omitempty"`
	// V2 is the directory in the unified hierarchy, or empty.
	V2 string `json:"v2,omitempty"`
	// Path is the path below the mounts.
	Path string `json:"path"`
	// Unified says that version 2 alone is in use.
	Unified bool `json:"unified,omitempty"`
	// Made lists the directories that did not exist before, parents first.
	Made []string `json:"made,omitempty"`
	// Unit is the scope that systemd has made the group for, or empty.
	Unit string `json:"unit,omitempty"`
	// Denied says which hierarchies could not be used, and why. Limits that need
	// them are errors.
	Denied []string `json:"-"`

	refused string // why controllers are missing, if that is known
}

// Create makes the group at path in every hierarchy that lets us. A relative path
// is taken from this process's own group; on version 2 from the one above, as a
// group with processes cannot pass controllers on. Existing directories are joined.
func (h *Host) Create(path string) (*Group, error) {
	g := &Group{Path: path, Unified: h.Unified()}
	if len(h.V1) == 0 && h.V2 == "" {
		g.Denied = []string{"control groups: none are mounted"}
	}
	for _, v := range h.V1 {
		dir, rel := place(v.Dir, v.Own, path)
		if err := g.mkdir(v.Dir, rel, slices.Contains(v.Controllers, "cpuset")); err != nil {
			if !g.deny(err) {
				return g, err
			}
			continue
		}
		g.V1 = append(g.V1, Hierarchy{Dir: dir, Controllers: v.Controllers})
	}
	if h.V2 == "" {
		return g, nil
	}
	dir, rel := place(h.V2, h.baseV2(), path)
	switch err := g.mkdir(h.V2, rel, false); {
	case err == nil:
		g.V2 = dir
	case g.deny(err):
		g.Unified = false // there are no files to read or write
	case g.Unified:
		return g, err
	}
	if g.Unified {
		g.enableControllers(h.V2, rel)
	}
	return g, nil
}

// baseV2 is where relative paths begin in the unified hierarchy.
func (h *Host) baseV2() string {
	if h.Unified() {
		return filepath.Dir(filepath.Join("/", h.OwnV2))
	}
	return h.OwnV2
}

// Exists tells whether a group of that path is there in any hierarchy.
func (h *Host) Exists(path string) bool {
	there := func(mount, own string) bool {
		dir, _ := place(mount, own, path)
		_, err := os.Stat(dir)
		return err == nil
	}
	for _, v := range h.V1 {
		if there(v.Dir, v.Own) {
			return true
		}
	}
	return h.V2 != "" && there(h.V2, h.baseV2())
}

// deny takes note of a hierarchy that isn't ours to use.
func (g *Group) deny(err error) bool {
	if !errors.Is(err, os.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return false
	}
	g.Denied = append(g.Denied, fmt.Sprintf("control groups: %v", err))
	return true
}

// mkdir makes rel below mount, and remembers what is new. The parents are there
// almost always, so the last one is tried first.
func (g *Group) mkdir(mount, rel string, cpuset bool) error {
	dir := filepath.Join(mount, rel)
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if errors.Is(err, os.ErrNotExist) && rel != "/" && rel != "." {
		if err := g.mkdir(mount, filepath.Dir(rel), cpuset); err != nil {
			return err
		}
		if err = os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
			return nil // somebody else was quicker
		}
	}
	if err != nil {
		return err
	}
	g.Made = append(g.Made, dir)
	if cpuset {
		return inheritCPUSet(filepath.Dir(dir), dir)
	}
	return nil
}

// inheritCPUSet fills the two files that must not be empty before a task joins,
// from the nearest parent where they aren't.
func inheritCPUSet(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || len(strings.TrimSpace(string(have))) > 0 {
			continue
		}
		want, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if len(strings.TrimSpace(string(want))) == 0 {
			// Somebody made the parent and left it so.
			if err := inheritCPUSet(filepath.Dir(parent), parent); err != nil {
				return err
			}
			if want, err = os.ReadFile(filepath.Join(parent, file)); err != nil {
				return err
			}
		}
		if err := write(filepath.Join(dir, file), strings.TrimSpace(string(want))); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers lets the group's parents pass all their controllers on. A
// parent that has processes of its own must not: it would refuse some and with the
// others become the root of threads, below which no process can be.
func (g *Group) enableControllers(mount, rel string) {
	dir := mount
	for part := range strings.SplitSeq(strings.Trim(rel, "/"), "/") {
		b, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		on, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		have := strings.Fields(string(on))
		missing := slices.DeleteFunc(strings.Fields(string(b)), func(c string) bool { return slices.Contains(have, c) })
		if len(missing) > 0 && busy(dir) {
			g.refused = fmt.Sprintf("%s has processes of its own, so it cannot pass %s on", dir, strings.Join(missing, ", "))
			return
		}
		for _, c := range missing {
			write(filepath.Join(dir, "cgroup.subtree_control"), "+"+c) // limits will tell what is missing
		}
		dir = filepath.Join(dir, part)
	}
}

// busy reports whether a group, but the root, has processes of its own.
func busy(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); err != nil {
		return false // the root has none
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	return err == nil && len(b) > 0
}

// dir returns where a version 1 controller's files are.
func (g *Group) dir(controller string) (string, bool) {
	for _, v := range g.V1 {
		if slices.Contains(v.Controllers, controller) {
			return v.Dir, true
		}
	}
	return "", false
}

// Join are the open files by which a process enters a group.
type Join struct {
	// Tasks take "0" from the process itself, one per version 1 hierarchy.
	Tasks []*os.File
	// V2 is the directory for CLONE_INTO_CGROUP, or nil.
	V2 *os.File
}

// Close closes all files.
func (j *Join) Close() {
	for _, f := range j.Tasks {
		f.Close()
	}
	if j.V2 != nil {
		j.V2.Close()
	}
}

// Join opens the group's files for a process that is born in it. beside is a
// process of the group or 0: if programs inside have divided the group further,
// which leaves no place for processes in the group itself, its place is taken.
func (g *Group) Join(beside int) (*Join, error) {
	j := &Join{}
	for _, v := range g.V1 {
		f, err := openRaw(filepath.Join(v.Dir, "tasks"), unix.O_WRONLY)
		if err != nil {
			j.Close()
			return nil, err
		}
		j.Tasks = append(j.Tasks, f)
	}
	if g.V2 != "" {
		f, err := openRaw(g.place(beside), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			j.Close()
			return nil, err
		}
		j.V2 = f
	}
	return j, nil
}

// place is where in the unified hierarchy a new process can be born.
func (g *Group) place(beside int) string {
	if !g.Unified || beside == 0 {
		return g.V2
	}
	divided, err := os.ReadFile(filepath.Join(g.V2, "cgroup.subtree_control"))
	if err != nil || len(strings.TrimSpace(string(divided))) == 0 {
		return g.V2
	}
	paths, err := ownPaths(fmt.Sprintf("/proc/%d/cgroup", beside))
	mount := strings.TrimSuffix(g.V2, filepath.Clean("/"+g.Path))
	dir := filepath.Join(mount, paths[""])
	if err != nil || !strings.HasPrefix(dir, g.V2+"/") {
		return g.V2
	}
	return dir
}

func openRaw(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// write sets one file without the allocation and polling of package os.
func write(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_TRUNC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		_, err = unix.Write(fd, []byte(value))
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}

// removeWait bounds the wait for the kernel to let go of a group whose last process has
// just ended, in all hierarchies together.
const removeWait = 2 * time.Second

// Delete removes the group with any groups inside it. A scope of systemd's is
// stopped first, with what still runs in it. A group that others are in is an error.
func (g *Group) Delete() error {
	var errs []error
	if g.Unit != "" && g.exists() {
		if err := g.stopUnit(); err != nil && g.exists() {
			errs = append(errs, err)
		}
	}
	until := time.Now().Add(removeWait)
	for _, v := range g.V1 {
		errs = append(errs, removeTree(v.Dir, until))
	}
	if g.V2 != "" {
		errs = append(errs, removeTree(g.V2, until))
	}
	// Parents that were made for this group go with it unless others moved in.
	for _, dir := range slices.Backward(g.Made) {
		if !g.owns(dir) {
			unix.Rmdir(dir)
		}
	}
	return errors.Join(errs...)
}

// owns reports whether a directory is the group itself.
func (g *Group) owns(dir string) bool {
	return dir == g.V2 || slices.ContainsFunc(g.V1, func(v Hierarchy) bool { return v.Dir == dir })
}

// exists reports whether a directory of the group is there still. systemd removes
// those of a scope by itself when its last process has ended.
func (g *Group) exists() bool {
	dir, ok := g.procsDir()
	if !ok {
		return false
	}
	_, err := os.Stat(dir)
	return err == nil
}

// removeTree removes a folder of groups, trying until then: after 1, 2, … 64 ms and then
// every 100.
func removeTree(dir string, until time.Time) error {
	for i := 0; ; i++ {
		err := unix.Rmdir(dir)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if e.IsDir() {
				removeTree(filepath.Join(dir, e.Name()), until)
			}
		}
		if time.Now().After(until) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		time.Sleep(min(time.Millisecond<<min(i, 7), 100*time.Millisecond))
	}
}
