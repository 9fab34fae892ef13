package registry

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/registry"
)

// evict unlinks what was not read for longest, when there is more than is to be kept; the
// blob that has just come stays. What goes is fetched again when somebody wants it.
func (c *cache) evict(ctx context.Context, keep digest.Digest) error {
	if c.cfg.Bytes == 0 {
		return nil
	}
	cached := func(repo string) bool { return c.upstream(repo) != nil }
	u, err := c.r.Catalog.Usage(ctx, cached)
	if err != nil || u.Bytes <= c.cfg.Bytes {
		return err
	}
	blobs, repos, err := c.cached(ctx, cached)
	if err != nil {
		return err
	}
	slices.SortFunc(blobs, func(a, b registry.Blob) int { return c.lastRead(a).Compare(c.lastRead(b)) })
	for _, b := range blobs {
		if u.Bytes <= c.cfg.Bytes {
			break
		}
		if b.Digest == keep {
			continue
		}
		for _, repo := range repos[b.Digest] {
			if err := c.r.Catalog.UnlinkBlob(ctx, repo, b.Digest); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		u.Bytes -= b.Size
	}
	return nil
}

// cached lists the blobs of caches, each once, and who has them.
func (c *cache) cached(ctx context.Context, match func(string) bool) ([]registry.Blob, map[digest.Digest][]string, error) {
	var out []registry.Blob
	repos := map[digest.Digest][]string{}
	names, err := c.r.Catalog.Repositories(ctx, registry.Page{})
	if err != nil {
		return nil, nil, err
	}
	for _, repo := range names {
		if !match(repo) {
			continue
		}
		blobs, err := c.r.Catalog.Blobs(ctx, repo, registry.Page{})
		if err != nil {
			return nil, nil, err
		}
		for _, b := range blobs {
			if repos[b.Digest] == nil {
				out = append(out, b)
			}
			repos[b.Digest] = append(repos[b.Digest], repo)
		}
	}
	return out, repos, nil
}
