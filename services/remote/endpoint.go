package remote

import (
	"net/http"
	"net/url"
	"slices"
)

// Endpoint is one place that serves a registry, for programs with a client of their own.
type Endpoint struct {
	// Base is its address, "/v2" included.
	Base url.URL
	// Pull, Resolve and Push tell what may be asked of it.
	Pull, Resolve, Push bool
	// Header goes with every request to it.
	Header http.Header
	Client *http.Client
}

// Endpoints lists where a registry's content can be had, mirrors first, as the
// config's hosts.toml says.
func Endpoints(cfg Config, host string) ([]Endpoint, error) {
	list, err := New(cfg).endpoints(host)
	out := make([]Endpoint, len(list))
	for i, e := range list {
		can := func(what string) bool { return slices.Contains(e.can, what) }
		out[i] = Endpoint{Base: e.base, Pull: can("pull"), Resolve: can("resolve"), Push: can("push"), Header: e.header, Client: e.client}
	}
	return out, err
}
