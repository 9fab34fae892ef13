package engine

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/services/manifest"
)

// hubAddress is how clients name Docker's own registry when they log in.
const hubAddress = "https://index.docker.io/v1/"

// Login asks a registry whether it knows who the credentials say. Its address is a host, or
// a URL as old clients send it; empty is Docker's own.
func (e *Engine) Login(ctx context.Context, address string, auth Credentials) error {
	if address == "" || address == hubAddress {
		address = "docker.io"
	}
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return invalid("invalid registry address %q", address)
		}
		address = u.Host
	}
	address, _, _ = strings.Cut(address, "/")
	err := e.Transfer.Login(e.in(ctx), address, auth.find)
	if errdefs.IsUnavailable(err) {
		return worded.New(errdefs.ErrUnknown, "%s", strings.TrimSuffix(err.Error(), ": unavailable")) // 503 would be the daemon's own
	}
	if errdefs.IsUnauthorized(err) {
		return worded.New(errdefs.ErrUnauthenticated, "login attempt to %s failed: unauthorized: %v", address, err)
	}
	return err
}

// Distribution is what a registry has under a name.
type Distribution struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Distribution looks a name up in its registry.
func (e *Engine) Distribution(ctx context.Context, name string, auth Credentials) (Distribution, error) {
	ctx = e.in(ctx)
	named, err := parseName(name)
	if err != nil {
		return Distribution{}, err
	}
	r := auth.source(named.String())
	desc, body, err := e.Transfer.Resolve(ctx, r)
	if err != nil {
		return Distribution{}, err
	}
	out := Distribution{Descriptor: desc, Platforms: []ocispec.Platform{}}
	m, err := manifest.Parse(desc, body)
	if err != nil {
		return out, err
	}
	for _, child := range m.Manifests {
		if child.Platform != nil {
			out.Platforms = append(out.Platforms, *child.Platform)
		}
	}
	if len(m.Manifests) > 0 {
		return out, nil
	}
	data, err := e.Transfer.Read(ctx, r, m.Config)
	if err != nil {
		return out, err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(data, &p); err == nil && p.OS != "" {
		out.Platforms = append(out.Platforms, p)
	}
	return out, nil
}
