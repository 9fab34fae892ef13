package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// engine is what keeps images and runs containers, as one client drives it.
type engine struct {
	name string
	own  bool   // Orlop by its own client
	dir  string // everything of it is below
	env  []string
	shim string // the start of the name of the programs that hold its containers
	pid  int    // of its daemon; 0: it has none
	stop func() error

	pull     func(image string) []string
	run      func(image, id string) []string // true, without a network, until it has ended and is removed
	bridged  func(image, id string) []string // the same on the default bridge; nil: it has none
	detached func(image, id string) []string // sleep
	exec     func(id, execID string) []string
	rm       func(id string) [][]string
}

// makers start private engines, each with its root in a folder of its own.
var makers = []struct {
	name  string
	start func(b *bench, dir string) (*engine, error)
}{
	{"orlop + orlopd", (*bench).orlopClient},
	{"docker + orlopd", func(b *bench, dir string) (*engine, error) { return b.orlopDoor(dir, "docker") }},
	{"orlopctl + orlopd", func(b *bench, dir string) (*engine, error) { return b.orlop(dir, orlopctl) }},
	{"ctr + orlopd", func(b *bench, dir string) (*engine, error) { return b.orlop(dir, ctr) }},
	{"ctr + containerd", (*bench).containerd},
	{"docker + dockerd", (*bench).dockerd},
	{"podman", (*bench).podman},
}

// missing says which of some programs isn't there.
func missing(programs ...string) error {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is not on this machine", p)
		}
	}
	return nil
}

// orlop starts orlopd; client fills in how it is driven.
func (b *bench) orlop(dir string, client func(e *engine, program, socket string)) (*engine, error) {
	state := filepath.Join(dir, "state")
	socket := filepath.Join(state, "orlopd.sock")
	e := &engine{dir: dir, shim: "containerd-shim", env: []string{"PATH=" + b.bin + ":" + os.Getenv("PATH")}}
	client(e, filepath.Join(b.bin, "orlopctl"), socket)
	d, err := startDaemon(filepath.Join(dir, "log"), e.env, "unix", socket,
		filepath.Join(b.bin, "orlopd"), "--root", filepath.Join(dir, "root"), "--state", state)
	if err != nil {
		return nil, err
	}
	e.pid, e.stop = d.cmd.Process.Pid, d.stop
	return e, nil
}

// orlopctl drives by Orlop's own client.
func orlopctl(e *engine, program, socket string) {
	call := func(args ...string) []string { return append([]string{program, "-q", "-a", socket}, args...) }
	e.own = true
	e.pull = func(image string) []string { return call("images", "pull", image) }
	e.run = func(image, id string) []string { return call("run", "--rm", "--id", id, image, "/bin/true") }
	e.detached = func(image, id string) []string { return call("run", "-d", "--id", id, image, "/bin/sleep", "3600") }
	e.exec = func(id, _ string) []string { return call("tasks", "exec", id, "/bin/true") }
	e.rm = func(id string) [][]string {
		return [][]string{call("containers", "rm", "-f", id)}
	}
}

// ctr drives by Debian's ctr, unchanged.
func ctr(e *engine, _, socket string) {
	call := func(args ...string) []string { return append([]string{"ctr", "-a", socket}, args...) }
	e.pull = func(image string) []string { return call("images", "pull", "--plain-http", image) }
	e.run = func(image, id string) []string { return call("run", "--rm", image, id, "/bin/true") }
	e.detached = func(image, id string) []string { return call("run", "-d", image, id, "/bin/sleep", "3600") }
	e.exec = func(id, execID string) []string { return call("tasks", "exec", "--exec-id", execID, id, "/bin/true") }
	e.rm = func(id string) [][]string {
		return [][]string{call("tasks", "rm", "-f", id), call("containers", "rm", id)}
	}
}

func (b *bench) containerd(dir string) (*engine, error) {
	if err := missing("containerd", "ctr", "containerd-shim-runc-v2", "runc"); err != nil {
		return nil, err
	}
	// The socket's path may have 107 bytes, and shims add to it.
	socket := filepath.Join(dir, "state", "containerd.sock")
	cfg := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket)
	file := filepath.Join(dir, "containerd.toml")
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		return nil, err
	}
	e := &engine{dir: dir, shim: "containerd-shim"}
	ctr(e, "", socket)
	d, err := startDaemon(filepath.Join(dir, "log"), nil, "unix", socket, "containerd", "-c", file)
	if err != nil {
		return nil, err
	}
	e.pid, e.stop = d.cmd.Process.Pid, d.stop
	return e, nil
}

func (b *bench) podman(dir string) (*engine, error) {
	if err := missing("podman", "conmon", "runc"); err != nil {
		return nil, err
	}
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		return nil, err
	}
	// runc, for crun refuses machines with both kinds of cgroups; and limits that
	// can be set without CAP_SYS_RESOURCE.
	call := func(args ...string) []string {
		return append([]string{"podman", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "state"),
			"--tmpdir", filepath.Join(dir, "tmp"), "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}, args...)
	}
	e := &engine{dir: dir, shim: "conmon", stop: func() error { return nil }}
	e.pull = func(image string) []string {
		return call("pull", "-q", "--tls-verify=false", "--signature-policy", policy, image)
	}
	e.run = func(image, id string) []string {
		return call("run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", id, image, "/bin/true")
	}
	e.bridged = func(image, id string) []string {
		return call("run", "--rm", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", id, image, "/bin/true")
	}
	e.detached = func(image, id string) []string {
		return call("run", "-d", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", id, image, "/bin/sleep", "3600")
	}
	e.exec = func(id, _ string) []string { return call("exec", id, "/bin/true") }
	e.rm = func(id string) [][]string { return [][]string{call("rm", "-f", "-t", "0", id)} }
	return e, nil
}

// withEngines starts all engines that there are, each on a disk of its own with
// the small image pulled, calls fn, and ends them.
func (b *bench) withEngines(what string, fn func([]*engine) error) (failed error) {
	var all []*engine
	for i, m := range makers {
		e, end, err := b.open(b.path(fmt.Sprintf("%s%d", what[:1], i)), m.start)
		if err != nil {
			b.table.add(row{what: what, who: m.name, note: why(err)})
			continue
		}
		e.name = m.name
		defer func() { failed = errors.Join(failed, end()) }()
		if err := b.pullSmall(e); err != nil {
			b.table.add(row{what: what, who: m.name, note: why(err)})
			continue
		}
		all = append(all, e)
	}
	return fn(all)
}

// pullSmall brings the small image. Orlop's own client takes ctr's help where
// the daemon can't pull by itself.
func (b *bench) pullSmall(e *engine) error {
	_, err := command(e.env, e.pull(b.registry.small)...)
	if err != nil && e.own && missing("ctr") == nil {
		helper := &engine{}
		ctr(helper, "", filepath.Join(e.dir, "state", "orlopd.sock"))
		_, err = command(e.env, helper.pull(b.registry.small)...)
	}
	return err
}
