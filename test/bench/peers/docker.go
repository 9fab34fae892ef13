package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// docker drives by a client with docker's command line.
func docker(e *engine, program, socket string) {
	call := func(args ...string) []string { return append([]string{program, "-H", "unix://" + socket}, args...) }
	e.pull = func(image string) []string { return call("pull", "-q", image) }
	e.run = func(image, id string) []string {
		return call("run", "--rm", "--network", "none", "--name", id, image, "/bin/true")
	}
	e.bridged = func(image, id string) []string { return call("run", "--rm", "--name", id, image, "/bin/true") }
	e.detached = func(image, id string) []string {
		return call("run", "-d", "--network", "none", "--name", id, image, "/bin/sleep", "3600")
	}
	e.exec = func(id, _ string) []string { return call("exec", id, "/bin/true") }
	e.rm = func(id string) [][]string { return [][]string{call("rm", "-f", id)} }
}

// orlopDoor is orlopd by its Docker door, driven by a client of docker's command line.
func (b *bench) orlopDoor(dir, program string) (*engine, error) {
	if err := missing(program); err != nil {
		return nil, err
	}
	return b.orlop(dir, func(e *engine, _, socket string) {
		docker(e, program, filepath.Join(filepath.Dir(socket), "docker.sock"))
	})
}

// orlopClient is Orlop's own client at that door.
func (b *bench) orlopClient(dir string) (*engine, error) {
	e, err := b.orlopDoor(dir, filepath.Join(b.bin, "orlop"))
	if err == nil {
		e.own = true
	}
	return e, err
}

// dockerd is Docker's own daemon.
func (b *bench) dockerd(dir string) (*engine, error) {
	if err := missing("dockerd", "docker", "containerd", "runc"); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	e := &engine{dir: dir, shim: "containerd-shim"}
	socket := filepath.Join(dir, "docker.sock")
	docker(e, "docker", socket)
	d, err := startDaemon(filepath.Join(dir, "log"), nil, "unix", socket, "dockerd", "--config-file", config, "-H", "unix://"+socket,
		"--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "state"), "--pidfile", filepath.Join(dir, "pid"))
	if err != nil {
		return nil, err
	}
	e.pid, e.stop = d.cmd.Process.Pid, d.stop
	return e, nil
}

// bridges measures true on the default bridge.
func (b *bench) bridges() error {
	const what = "run true on the bridge"
	return b.withEngines(what, func(all []*engine) error {
		var able []*engine
		for _, e := range all {
			if e.bridged != nil {
				able = append(able, e)
			}
		}
		b.engineRound(what, "≤ 20 ms", able, func(e *engine, n int) (time.Duration, error) {
			return command(e.env, e.bridged(b.registry.small, fmt.Sprintf("b%d", n))...)
		})
		return nil
	})
}
