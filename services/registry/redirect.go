package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
)

// redirect sends a client to where the bytes of a blob are, if that is wanted and the
// store has an address. The address is as good as the right to pull for a while.
func (r *Registry) redirect(q *request, dgst digest.Digest) (bool, error) {
	where, ok := r.Blobs.(content.Locator)
	if !ok || !r.cfg.Redirect || q.Method != http.MethodGet {
		return false, nil
	}
	url, err := where.Locate(r.in(q.Context()), dgst)
	if err != nil || url == "" {
		return false, err
	}
	h := q.w.Header()
	h.Set("Docker-Content-Digest", dgst.String())
	h.Set("Cache-Control", "no-store")
	h.Set("Location", url)
	q.w.WriteHeader(http.StatusTemporaryRedirect)
	return true, nil
}
