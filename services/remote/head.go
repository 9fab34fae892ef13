package remote

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Head asks which manifest a name points at, without fetching it.
func (c *Client) Head(ctx context.Context, ref Reference) (digest.Digest, error) {
	var out digest.Digest
	err := c.each(ctx, ref.Host, "resolve", func(e endpoint) error {
		what := fmt.Sprintf("manifest %s of %s at %s", ref.object(), ref.Repository, e.base.Host)
		resp, err := c.do(ctx, e, call{method: http.MethodHead, path: ref.Repository + "/manifests/" + ref.object(), ref: ref,
			scope: pullScope(ref.Repository), header: http.Header{"Accept": {manifestTypes}}})
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if resp.StatusCode != http.StatusOK {
			return failure(what, resp)
		}
		resp.Body.Close()
		if out = digest.Digest(resp.Header.Get("Docker-Content-Digest")); out.Validate() != nil {
			return fmt.Errorf("%s: the registry tells no digest: %w", what, errdefs.ErrUnknown)
		}
		return nil
	})
	return out, err
}
