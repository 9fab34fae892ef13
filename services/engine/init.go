package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/orlop/orlop/internal/reaper"
	"github.com/orlop/orlop/internal/safefile"
	"github.com/orlop/orlop/services/spec"
)

// initTarget is where a container finds its init; Docker's place, which programs look for.
const initTarget = "/sbin/docker-init"

// reaped tells whether a container's command is run by an init.
func (e *Engine) reaped(h *hostConfig) bool {
	if h.Init != nil {
		return *h.Init
	}
	return e.Config.Init
}

// addInit puts the init before a container's command. The file is one for all
// containers, which see it read-only.
func (e *Engine) addInit(o *spec.Options) error {
	path := filepath.Join(e.at.Root, "init")
	if err := writeInit(path); err != nil {
		return err
	}
	o.Entrypoint = slices.Concat([]string{initTarget, "--"}, o.Entrypoint)
	o.Mounts = append([]specs.Mount{{Type: "bind", Source: path, Destination: initTarget,
		Options: []string{"bind", "ro", "nosuid", "nodev", "rprivate"}}}, o.Mounts...)
	return nil
}

// writeInit writes the program, unless it is there as this version has it.
func writeInit(path string) error {
	want := reaper.Program()
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return safefile.Replace(path, want, 0o555)
}
