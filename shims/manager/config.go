package manager

import (
	"errors"
	"fmt"
	"strings"
)

// Config says how containers are run.
type Config struct {
	// Runtimes says, for each runtime's name, what runs its containers. A name that
	// isn't listed is turned into a shim's: io.containerd.runsc.v1 is
	// containerd-shim-runsc-v1, looked for beside the daemon and on PATH.
	Runtimes map[string]Runtime `toml:"runtimes"`
	// ContainersPerShim bounds how many containers one shim holds. More save memory;
	// fewer are touched when a shim dies.
	ContainersPerShim int `toml:"containers_per_shim"`
}

// Runtime is one way to run containers.
type Runtime struct {
	// Shim is the program that holds containers, by name or path.
	Shim string `toml:"shim"`
	// Program is a runtime with runc's command line that Orlop's shim shall use, by
	// name or path; empty is the runtime that is built in.
	Program string `toml:"program"`
	// SystemdCgroup lets systemd make control groups.
	SystemdCgroup bool `toml:"systemd_cgroup"`
}

// ownShim is the shim that holds many containers and can adopt those of another.
const ownShim = "containerd-shim-orlop-v1"

// DefaultConfig lets the name that clients use by default mean Orlop's shim.
func DefaultConfig() Config {
	return Config{ContainersPerShim: 100, Runtimes: map[string]Runtime{
		"io.containerd.orlop.v1": {Shim: ownShim},
		"io.containerd.runc.v2":  {Shim: ownShim},
		"io.orlop.runc.v1":       {Shim: ownShim, Program: "runc"},
		"io.orlop.crun.v1":       {Shim: ownShim, Program: "crun"},
	}}
}

// Validate implements config.Validator.
func (c Config) Validate() error {
	var errs []error
	if c.ContainersPerShim < 1 {
		errs = append(errs, errors.New("containers_per_shim: must be at least 1"))
	}
	for name, r := range c.Runtimes {
		if r.Shim == "" {
			errs = append(errs, fmt.Errorf("runtimes: %s names no shim", name))
		}
		if r.Program != "" && !strings.HasSuffix(r.Shim, ownShim) {
			errs = append(errs, fmt.Errorf("runtimes: %s has a program, which only %s uses", name, ownShim))
		}
	}
	return errors.Join(errs...)
}
