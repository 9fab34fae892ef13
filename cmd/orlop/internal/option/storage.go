package option

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/container"
)

// apply fills in mounts. A volume with a source is a bind, one without is anonymous.
func (s *storage) apply(config *container.Config, host *container.HostConfig) error {
	for _, text := range s.volumes.GetSlice() {
		source, rest, named := strings.Cut(text, ":")
		if !named {
			if config.Volumes == nil {
				config.Volumes = map[string]struct{}{}
			}
			config.Volumes[text] = struct{}{}
			continue
		}
		if strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") || source == "." || source == ".." {
			abs, err := filepath.Abs(source)
			if err != nil {
				return err
			}
			source = abs
		}
		host.Binds = append(host.Binds, source+":"+rest)
	}
	for _, text := range s.tmpfs.GetSlice() {
		if host.Tmpfs == nil {
			host.Tmpfs = map[string]string{}
		}
		target, options, _ := strings.Cut(text, ":")
		if target == "" {
			return fmt.Errorf("invalid tmpfs %q: no target", text)
		}
		host.Tmpfs[target] = options
	}
	host.Mounts = s.mounts.Value()
	host.StorageOpt = pairs(s.options.GetSlice())
	return nil
}

// pairs reads key=value texts; nil for none.
func pairs(texts []string) map[string]string {
	if len(texts) == 0 {
		return nil
	}
	return opts.ConvertKVStringsToMap(texts)
}
