package session

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
)

// hubKey is under what name credentials of docker.io are kept.
const hubKey = "https://index.docker.io/v1/"

// RegistryKey is the name under which a registry's credentials are kept.
func RegistryKey(host string) string {
	switch host {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		return hubKey
	}
	return host
}

// Credentials are those of a registry, from the user's file or its helpers; empty
// where there are none.
func (s *Session) Credentials(host string) registry.AuthConfig {
	a, err := s.Config().GetAuthConfig(RegistryKey(host))
	if err != nil {
		return registry.AuthConfig{}
	}
	return registry.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
}

// AuthFor is the header with the credentials for an image's registry.
func (s *Session) AuthFor(image string) (string, error) {
	named, err := reference.ParseNormalizedNamed(strings.TrimSpace(image))
	if err != nil {
		return "", err
	}
	return authconfig.Encode(s.Credentials(reference.Domain(named)))
}

// AllCredentials are those of every registry, for builds.
func (s *Session) AllCredentials() map[string]registry.AuthConfig {
	all, err := s.Config().GetAllCredentials()
	if err != nil {
		return nil
	}
	out := make(map[string]registry.AuthConfig, len(all))
	for host, a := range all {
		out[host] = registry.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
			IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	}
	return out
}
