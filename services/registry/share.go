package registry

import (
	"context"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/internal/voucher"
)

// mayHave tells whether who pushes may be given a blob by its digest alone, where the
// registry shares: an administrator, whom the daemon itself vouches for, or who may
// pull it from some repository. Knowing a digest is no right.
func (r *Registry) mayHave(q *request, dgst digest.Digest) bool {
	if !r.cfg.Shared || !q.who.May(Access{Repository: q.repo, Action: Push}) {
		return false
	}
	return r.vouched(q, dgst) || q.who.May(Access{Repository: AdminRepository, Action: Delete}) || r.mayPull(q, dgst)
}

// vouched tells that the request comes from this daemon, which has the blob.
func (r *Registry) vouched(q *request, dgst digest.Digest) bool {
	return r.Voucher.Good(q.Header.Get(voucher.Header), q.Host, q.repo, dgst)
}

// mayPull tells whether the caller may pull a blob from some repository.
func (r *Registry) mayPull(q *request, dgst digest.Digest) bool {
	repos, err := r.Catalog.Uses(q.Context(), dgst)
	if err != nil {
		log.G(q.Context()).WithError(err).Warnf("registry: who has blob %s", dgst)
	}
	for _, repo := range repos {
		if q.who.May(Access{Repository: repo, Action: Pull}) {
			return true
		}
	}
	return false
}

// adopt links a blob that other doors of the daemon have and the registry hasn't, for
// who asks about it before a push: so a push from this machine moves no bytes.
func (r *Registry) adopt(q *request, dgst digest.Digest) bool {
	if r.cfg.ReadOnly || q.Method != http.MethodHead || !r.mayHave(q, dgst) {
		return false
	}
	if _, err := r.Blobs.Info(r.in(q.Context()), dgst); !errdefs.IsNotFound(err) && !r.vouched(q, dgst) {
		return false // one that the registry has: what a repository has deleted must stay away
	}
	return r.link(q, dgst) == nil
}

// link gives the repository a blob that the content store has, in this namespace or
// in another.
func (r *Registry) link(q *request, dgst digest.Digest) error {
	ctx, end, err := r.held(q.Context())
	if err != nil {
		return err
	}
	defer end()
	if err := r.present(ctx, dgst); err != nil {
		return err
	}
	return r.enter(ctx, q.repo, dgst)
}

// present makes sure that the registry's namespace has a blob.
func (r *Registry) present(ctx context.Context, dgst digest.Digest) error {
	if _, err := r.Blobs.Info(ctx, dgst); !errdefs.IsNotFound(err) {
		return err
	}
	return r.share(ctx, dgst)
}
