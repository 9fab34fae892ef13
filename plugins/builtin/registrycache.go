package builtin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/orlop/orlop/internal/version"
	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/remote"
)

// registryUpstream is a registry that repositories are a cache of.
type registryUpstream struct {
	// Prefix begins the names of these repositories, before a slash; empty is all of
	// them, and nothing can be pushed then.
	Prefix string `toml:"prefix"`
	// Registry is the upstream, such as docker.io.
	Registry string `toml:"registry"`
	// Username logs in to it; empty is nobody in particular.
	Username string `toml:"username"`
	// PasswordFile has the password or token.
	PasswordFile string `toml:"password_file"`
	// PlainHTTP reaches it without TLS. This machine always is.
	PlainHTTP bool `toml:"plain_http"`
	// HostDirs are searched for HOST/hosts.toml, such as /etc/containerd/certs.d.
	HostDirs []string `toml:"host_dirs"`
}

func (c *registryConfig) cache(out *registry.CacheConfig) error {
	var err error
	if out.Fresh, err = time.ParseDuration(c.CacheFresh); err != nil || out.Fresh <= 0 {
		return fmt.Errorf("cache_fresh: %q is no time such as 10m", c.CacheFresh)
	}
	if out.Bytes = c.CacheBytes; c.CacheBytes < 0 {
		return errors.New("cache_bytes can't be negative")
	}
	for i, u := range c.Upstreams {
		if u.Registry == "" {
			return fmt.Errorf("upstreams: number %d names no registry", i+1)
		}
		out.Upstreams = append(out.Upstreams, registry.Upstream{Prefix: u.Prefix, Host: u.Registry, Client: u.client()})
	}
	return nil
}

func (u registryUpstream) client() *remote.Client {
	cfg := remote.Config{UserAgent: "orlopd/" + version.Release, HostDirs: u.HostDirs}
	if u.PlainHTTP {
		cfg.PlainHTTP = []string{u.Registry}
	}
	if u.Username != "" {
		cfg.Credentials = func(context.Context, remote.Login) (remote.Credentials, error) {
			password, err := os.ReadFile(u.PasswordFile) // anew: it may be renewed by others
			return remote.Credentials{Username: u.Username, Password: string(bytes.TrimSpace(password))}, err
		}
	}
	return remote.New(cfg)
}
