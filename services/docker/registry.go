package docker

import (
	"net/http"

	"github.com/moby/moby/api/types/registry"

	"github.com/orlop/orlop/services/engine"
)

// registryRoutes ask registries.
var registryRoutes = []route{
	{method: "GET", path: "/images/search", handle: searchImages},
	{method: "POST", path: "/auth", handle: login},
	{method: "GET", path: "/distribution/{name...}/json", handle: distribution},
}

// login tells whether a registry knows somebody. What it answers is kept by the client.
func login(s *Server, c *call) error {
	var auth registry.AuthConfig
	if err := c.body(&auth, true); err != nil {
		return err
	}
	creds := engine.Credentials{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken}
	if err := s.engine.Login(c.r.Context(), auth.ServerAddress, creds); err != nil {
		return err
	}
	return c.send(http.StatusOK, registry.AuthResponse{Status: "Login Succeeded"})
}

func distribution(s *Server, c *call) error {
	d, err := s.engine.Distribution(c.r.Context(), c.vars["name"], c.credentials())
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, registry.DistributionInspect{Descriptor: d.Descriptor, Platforms: d.Platforms})
}
