package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/core/mount"
	"github.com/orlop/orlop/internal/userns"
	"github.com/orlop/orlop/runtime"
)

// places is where mounts are that are made for a container of a runtime program. It is
// in no folder that is ever removed as a whole, for what shows there is users' data.
func (p *program) places(id string) string { return filepath.Join(p.root+".places", id) }

// knownVersion is what configurations say they keep to: all runtime programs know it,
// and some refuse others though they know what is in them (crun before 1.9).
const knownVersion = "1.0.2"

// bundleConfig is a bundle's configuration, with all that this version knows nothing of.
type bundleConfig struct {
	path   string
	fields map[string]json.RawMessage
	mounts []specs.Mount
	linux  struct {
		GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
	}
}

func readConfig(bundle string) (*bundleConfig, error) {
	c := &bundleConfig{path: filepath.Join(bundle, "config.json"), fields: map[string]json.RawMessage{}}
	data, err := os.ReadFile(c.path)
	if err != nil {
		return nil, err
	}
	if err = json.Unmarshal(data, &c.fields); err == nil {
		err = errors.Join(c.read("mounts", &c.mounts), c.read("linux", &c.linux))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.path, err)
	}
	return c, nil
}

func (c *bundleConfig) read(field string, into any) error {
	if len(c.fields[field]) == 0 {
		return nil
	}
	return json.Unmarshal(c.fields[field], into)
}

func (c *bundleConfig) set(field string, value any) error {
	data, err := json.Marshal(value)
	c.fields[field] = data
	return err
}

func (c *bundleConfig) save() error {
	data, err := json.Marshal(c.fields)
	if err != nil {
		return err
	}
	return os.WriteFile(c.path, data, 0o600) // after a crash the container is made anew
}

// mountAll makes a container's root file system and the mounts that runtime programs
// can't make, and changes the configuration to have them. After an error unmount takes
// them back.
func (b *programBox) mountAll(rootfs []mount.Mount) error {
	config, err := readConfig(b.bundle)
	if err != nil {
		return err
	}
	dir := b.p.places(b.id)
	b.rootfs = filepath.Join(b.bundle, "rootfs")
	if len(rootfs) > 0 && len(config.linux.GIDMappings) > 0 {
		// Runtime programs look for it as the container's root, who can't enter bundles.
		b.rootfs = filepath.Join(dir, "rootfs")
		if err := openTo(dir, config.linux.GIDMappings); err != nil {
			return err
		}
		if err := config.set("root", specs.Root{Path: b.rootfs, Readonly: config.readonly()}); err != nil {
			return err
		}
	}
	if len(rootfs) > 0 {
		if err := os.MkdirAll(b.rootfs, 0o711); err != nil {
			return err
		}
		b.mounted = true
		if err := runtime.MountShifted(rootfs, b.rootfs); err != nil {
			return fmt.Errorf("root file system: %w", err)
		}
	}
	placed, err := runtime.Place(config.mounts, dir)
	if err != nil {
		return err
	}
	if len(placed) > 0 {
		if err := config.set("mounts", placed); err != nil {
			return err
		}
	}
	if err := config.set("ociVersion", knownVersion); err != nil {
		return err
	}
	if userns.Nested() {
		if err := config.nameNoGroup(); err != nil {
			return err
		}
	}
	return config.save()
}

// nameNoGroup leaves the control group to the program: an ordinary user's may go without
// one that they can't make, but not without one that is named.
func (c *bundleConfig) nameNoGroup() error {
	linux := map[string]json.RawMessage{}
	if err := c.read("linux", &linux); err != nil {
		return err
	}
	delete(linux, "cgroupsPath")
	return c.set("linux", linux)
}

func (c *bundleConfig) readonly() bool {
	var root specs.Root
	return c.read("root", &root) == nil && root.Readonly
}

// openTo makes a folder that the root of a user namespace may enter, but not list.
func openTo(dir string, gids []specs.LinuxIDMapping) error {
	above := filepath.Dir(filepath.Dir(dir))
	st, err := os.Stat(above)
	if err == nil {
		err = errors.Join(os.Chmod(above, st.Mode().Perm()|0o011), os.MkdirAll(filepath.Dir(dir), 0o711), os.MkdirAll(dir, 0o710))
	}
	if err != nil {
		return err
	}
	for _, m := range gids {
		if m.ContainerID == 0 {
			return os.Chown(dir, -1, int(m.HostID))
		}
	}
	return nil
}
