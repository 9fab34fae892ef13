package transfer

import "github.com/orlop/orlop/services/remote"

// Endpoints lists where a registry's content can be had, as the configured hosts.toml
// files say now: for parts that talk to registries by a client of their own.
func (s *Service) Endpoints(host string) ([]remote.Endpoint, error) {
	return remote.Endpoints(remote.Config{HostDirs: s.cfg.ConfigPath}, host)
}
