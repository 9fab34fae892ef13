package mounts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// UnmountBelow takes away everything that is mounted below a folder, but not at it,
// the last mounted first. Users of it finish. It goes on after errors.
func UnmountBelow(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 {
			if at := mountEscapes.Replace(f[1]); strings.HasPrefix(at, dir+"/") {
				points = append(points, at)
			}
		}
	}
	var errs []error
	for _, at := range slices.Backward(points) {
		errs = append(errs, Unmount(at, true))
	}
	return errors.Join(errs...)
}

// mountEscapes reads paths as the kernel writes them in lists of mounts (proc(5)).
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
