package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/registry"
)

// Quota bounds what the repositories that it chooses may have together: the bytes of
// all blobs and manifests, each counted once.
type Quota struct {
	Repositories registry.Patterns
	Bytes        int64
}

// believeFor is how long a figure is trusted that deletions may have made too high.
const believeFor = 30 * time.Second

// quota keeps an estimate of what is in use, never too low: what is added is added to
// it, and before anything is refused it is counted anew.
type quota struct {
	Quota
	mu    sync.Mutex
	used  int64
	asked time.Time // when it was counted; zero is never
	// pending is what was let in and may not be in the catalog yet, in bytes; coming are
	// how often each digest of it was let in, which counts once.
	pending int64
	coming  map[digest.Digest]int
}

func newQuotas(list []Quota) (out []*quota) {
	for _, q := range list {
		out = append(out, &quota{Quota: q})
	}
	return out
}

// take lets so many bytes in under a digest, or refuses. The caller calls done when the
// catalog has them, or won't.
func (q *quota) take(ctx context.Context, c registry.Catalog, dgst digest.Digest, size int64) (done func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.coming[dgst] > 0 {
		q.coming[dgst]++
		return q.arrival(dgst, size), nil
	}
	if q.used+q.pending+size > q.Bytes { // asked first, for counting anew takes longer
		if there, err := q.has(ctx, c, dgst); err != nil || there {
			return func() {}, err
		}
	}
	if q.asked.IsZero() || q.used+q.pending+size > q.Bytes || time.Since(q.asked) > believeFor {
		u, err := c.Usage(ctx, q.Repositories.Match)
		if err != nil {
			return nil, err
		}
		q.used, q.asked = u.Bytes, time.Now()
	}
	if q.used+q.pending+size > q.Bytes {
		return nil, fail(http.StatusForbidden, codeDenied, "the quota of %s is %d bytes, of which %d are in use: there is no room for %d more; delete something first",
			q.names(), q.Bytes, q.used+q.pending, size)
	}
	q.pending += size
	if q.coming == nil {
		q.coming = map[digest.Digest]int{}
	}
	q.coming[dgst]++
	return q.arrival(dgst, size), nil
}

// arrival is called when the catalog has what was let in, or won't; the last of those
// that are about the same digest counts.
func (q *quota) arrival(dgst digest.Digest, size int64) func() {
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.coming[dgst]--; q.coming[dgst] > 0 {
			return
		}
		delete(q.coming, dgst)
		q.pending -= size
		q.used += size
	}
}

// has tells whether one of the quota's repositories has a blob, which then costs
// nothing in another.
func (q *quota) has(ctx context.Context, c registry.Catalog, dgst digest.Digest) (bool, error) {
	if dgst == "" {
		return false, nil
	}
	repos, err := c.Uses(ctx, dgst)
	for _, repo := range repos {
		if q.Repositories.Match(repo) {
			return true, err
		}
	}
	return false, err
}

func (q *quota) names() string {
	if len(q.Repositories) == 1 {
		return q.Repositories[0].String()
	}
	return fmt.Sprint(q.Repositories)
}

// room asks all quotas of a repository for bytes.
func (r *Registry) room(ctx context.Context, repo string, dgst digest.Digest, size int64) (done func(), err error) {
	var all []func()
	done = func() {
		for _, d := range all {
			d()
		}
	}
	for _, q := range r.quotas {
		if !q.Repositories.Match(repo) {
			continue
		}
		d, err := q.take(ctx, r.Catalog, dgst, size)
		if err != nil {
			done()
			return nil, err
		}
		all = append(all, d)
	}
	return done, nil
}

// enter gives a repository a blob that the store has, if there is room.
func (r *Registry) enter(ctx context.Context, repo string, dgst digest.Digest) error {
	if len(r.quotas) > 0 {
		_, err := r.Catalog.Blob(ctx, repo, dgst)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		if err != nil {
			info, err := r.Blobs.Info(ctx, dgst)
			if err != nil {
				return err
			}
			done, err := r.room(ctx, repo, dgst, info.Size)
			if err != nil {
				return err
			}
			defer done()
		}
	}
	_, err := r.Catalog.LinkBlob(ctx, repo, dgst)
	return err
}

// largest is how large a blob of a repository may be, in bytes; 0 is no bound. What is
// larger than a quota will never fit, and is refused before its bytes come.
func (r *Registry) largest(repo string) int64 {
	most := r.cfg.MaxBlob
	for _, q := range r.quotas {
		if q.Repositories.Match(repo) && (most == 0 || q.Bytes < most) {
			most = q.Bytes
		}
	}
	return most
}
