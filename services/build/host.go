package build

import (
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/util/resolver"

	"github.com/orlop/orlop/services/remote"
)

// registries tells builds where registries are: mirrors, certificates and plain http
// are those of the daemon's own pulls.
func registries(endpoints func(host string) ([]remote.Endpoint, error)) docker.RegistryHosts {
	if endpoints == nil {
		return resolver.NewRegistryConfig(nil)
	}
	return func(host string) ([]docker.RegistryHost, error) {
		list, err := endpoints(host)
		if err != nil {
			return nil, err
		}
		out := make([]docker.RegistryHost, len(list))
		for i, e := range list {
			out[i] = docker.RegistryHost{Client: e.Client, Host: e.Base.Host, Scheme: e.Base.Scheme, Path: e.Base.Path, Header: e.Header,
				Capabilities: capabilities(e)}
		}
		return out, nil
	}
}

func capabilities(e remote.Endpoint) docker.HostCapabilities {
	var out docker.HostCapabilities
	if e.Pull {
		out |= docker.HostCapabilityPull
	}
	if e.Resolve {
		out |= docker.HostCapabilityResolve
	}
	if e.Push {
		out |= docker.HostCapabilityPush
	}
	return out
}
