package plugins

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/orlop/orlop/internal/trust"
	"github.com/orlop/orlop/plugins/config"
	"github.com/orlop/orlop/plugins/graph"
)

// describeProxy shows what the config says about a proxy.
func (s *Scope) describeProxy(p config.Proxy) {
	s.Capabilities(p.Capabilities...)
	for k, v := range p.Exports {
		s.Export(k, v)
	}
	s.Export("address", p.Address)
	if p.Platform != "" {
		s.Platforms(parsePlatform(p.Platform))
	}
}

func parsePlatform(text string) graph.Platform {
	parts := strings.SplitN(text, "/", 3)
	parts = append(parts, "", "")
	return graph.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// checkSocket refuses a socket that another user could have made or can talk
// through: one that every user can write to, one that neither root nor the
// daemon's user owns, or one in a folder where everyone can put another in its
// place. A socket that isn't there yet is left to the dialler.
func checkSocket(address string) error {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok && !filepath.IsAbs(path) {
		return nil // no unix socket
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("socket %s: every user can write to it (mode %#o)", path, info.Mode().Perm())
	}
	if uid := trust.Owner(info); !trust.Trusted(uid) {
		return fmt.Errorf("socket %s: belongs to user %d, not to root", path, uid)
	}
	if err := trust.Folder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return nil
}
