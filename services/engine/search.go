package engine

import (
	"context"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/worded"
	"github.com/orlop/orlop/services/remote"
)

// Search finds repositories of a registry by a part of their name: host/part, or a part
// alone for Docker's own. Names of other registries come with their host, as they are
// pulled.
func (e *Engine) Search(ctx context.Context, term string, limit int, auth Credentials) ([]remote.Found, error) {
	host, part, prefix := "docker.io", term, ""
	if first, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		host, part = first, rest
		if host != "docker.io" && host != "index.docker.io" {
			prefix = host + "/"
		}
	}
	found, err := e.Transfer.Search(e.in(ctx), host, part, limit, auth.find)
	if errdefs.IsUnavailable(err) {
		return nil, worded.New(errdefs.ErrUnknown, "%s", strings.TrimSuffix(err.Error(), ": unavailable")) // 503 would be the daemon's own
	}
	for i := range found {
		found[i].Name = prefix + found[i].Name
	}
	return found, err
}
