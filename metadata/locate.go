package metadata

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
)

var _ content.Locator = contentStore{}

// Locate implements [content.Locator], if the backend does. A blob that the namespace
// hasn't got is NotFound.
func (s contentStore) Locate(ctx context.Context, dgst digest.Digest) (string, error) {
	back, ok := s.db.back.Content.(content.Locator)
	if !ok {
		return "", nil
	}
	if _, err := s.lookup(ctx, dgst); err != nil {
		return "", err
	}
	return back.Locate(ctx, dgst)
}
