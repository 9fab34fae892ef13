package remote

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// Delete removes a tag, or a manifest by its digest. What isn't there is success; a
// registry that doesn't do it is NotImplemented.
func (p *Pusher) Delete(ctx context.Context, object string) error {
	what := fmt.Sprintf("delete manifest %s of %s at %s", object, p.ref.Repository, p.e.base.Host)
	resp, err := p.do(ctx, call{method: http.MethodDelete, path: p.ref.Repository + "/manifests/" + object, scope: "repository:" + p.ref.Repository + ":delete"})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusOK, http.StatusNoContent, http.StatusNotFound:
		drain(resp)
		return nil
	case http.StatusMethodNotAllowed, http.StatusBadRequest, http.StatusNotImplemented:
		drain(resp)
		return fmt.Errorf("%s: the registry answers %s: %w", what, resp.Status, errdefs.ErrNotImplemented)
	}
	return failure(what, resp)
}
