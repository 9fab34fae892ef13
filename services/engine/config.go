package engine

import (
	"fmt"

	api "github.com/moby/moby/api/types/container"
)

// Config says how the engine works.
type Config struct {
	// Init lets the first process of containers that don't say be an init, which passes
	// signals on and collects orphans.
	Init bool `toml:"init"`
	// CDISpecDirs are the folders in which devices are described by files of the Container
	// Device Interface; of two descriptions of a device that of the later folder counts.
	CDISpecDirs []string `toml:"cdi_spec_dirs"`
	// UsernsRemap makes the root of containers another user of the host: "default", which
	// is the user orlopremap, or user[:group]. Their ids are those that /etc/subuid and
	// /etc/subgid grant. Containers that are run with --userns=host go without. Empty is off.
	UsernsRemap string `toml:"userns_remap"`
	// DefaultIPCMode is the IPC namespace of containers that don't say: "private", or
	// "shareable", which other containers may join.
	DefaultIPCMode string `toml:"default_ipc_mode"`
	// DefaultShmSize bounds /dev/shm of containers that don't say, in bytes.
	DefaultShmSize int64 `toml:"default_shm_size"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config {
	return Config{CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, DefaultIPCMode: string(api.IPCModePrivate), DefaultShmSize: 64 << 20}
}

// Validate refuses a daemon without the ids that it is to give to containers, and
// defaults that would be refused where a container says so.
func (c *Config) Validate() error {
	if mode := api.IpcMode(c.DefaultIPCMode); !mode.IsPrivate() && !mode.IsShareable() {
		return fmt.Errorf("default_ipc_mode is %q: it can be \"private\" or \"shareable\"", c.DefaultIPCMode)
	}
	if c.DefaultShmSize <= 0 {
		return fmt.Errorf("default_shm_size is %d: it is a number of bytes", c.DefaultShmSize)
	}
	_, err := readMaps(c.UsernsRemap)
	return err
}
