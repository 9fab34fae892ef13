package remote

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// Login asks the registry itself, no mirror, whether it knows who the client's credentials
// say. Those that it does not know are Unauthenticated.
func (c *Client) Login(ctx context.Context, host string) error {
	all, err := c.endpoints(host)
	if err != nil {
		return err
	}
	own := all[len(all)-1].base
	for _, e := range all {
		// A host of hosts.toml may be the registry itself, with its certificates.
		if e.base.Scheme != own.Scheme || e.base.Host != own.Host {
			continue
		}
		what := "login at " + e.base.Host
		resp, err := c.do(ctx, e, call{method: http.MethodGet, path: "/", ref: Reference{Host: host}})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		defer drain(resp)
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("%s failed with status: %s: %w", what, resp.Status, errdefs.ErrUnauthenticated)
		}
		return failure(what, resp)
	}
	return noHost(host, "resolve")
}
