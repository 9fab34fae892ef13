package distribution

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

// Blob fetches a small one, and makes sure that it is what was asked for.
func (c *Client) Blob(ctx context.Context, repo string, d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("blob %q: %w", d, err)
	}
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/v2/" + repo + "/blobs/" + d.String(), scope: scope(repo, "pull")})
	if err != nil {
		return nil, err
	}
	if got := d.Algorithm().FromBytes(a.Body); got != d {
		return nil, fmt.Errorf("%s answers %s for blob %s", c.base.Host, got, d)
	}
	return a.Body, nil
}

// Mount has a repository get a blob of another one of the registry.
func (c *Client) Mount(ctx context.Context, repo string, d digest.Digest, from string) error {
	args := url.Values{"mount": {d.String()}, "from": {from}}
	a, err := c.do(ctx, request{method: http.MethodPost, path: "/v2/" + repo + "/blobs/uploads/?" + args.Encode(), scope: scope(repo, "pull,push") + " " + scope(from, "pull")})
	if err != nil {
		return err
	}
	if a.Status != http.StatusCreated {
		return fmt.Errorf("%s doesn't give blob %s of %s to %s", c.base.Host, d, from, repo)
	}
	return nil
}

// Put stores a manifest under a tag or its digest, and returns the digest.
func (c *Client) Put(ctx context.Context, repo, ref, mediaType string, body []byte) (digest.Digest, error) {
	_, err := c.do(ctx, request{method: http.MethodPut, path: "/v2/" + repo + "/manifests/" + ref, scope: scope(repo, "pull,push"), kind: mediaType, body: body})
	return digest.FromBytes(body), err
}
