package registry

import (
	"context"
	"time"

	"github.com/containerd/log"
)

// How often, and how much at once, what nothing needs is unlinked.
const (
	tidyEvery = 10 * time.Minute
	tidyBatch = 1000
)

// tidy unlinks blobs that hang on no manifest and are older than the grace, while
// everything goes on: who pushes one again makes it young. What is unlinked is the
// collector's.
func (r *Registry) tidy(ctx context.Context) {
	every := time.NewTicker(min(tidyEvery, max(r.cfg.Grace/2, time.Second)))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if r.cfg.ReadOnly {
			continue
		}
		if _, err := r.retain(ctx, false); err != nil && ctx.Err() == nil {
			log.G(ctx).WithError(err).Warn("registry: what is old could not be removed")
		}
		for {
			n, err := r.Catalog.Expire(ctx, time.Now().Add(-r.cfg.Grace), tidyBatch)
			if err != nil && ctx.Err() == nil {
				log.G(ctx).WithError(err).Warn("registry: what nothing needs could not be unlinked")
			}
			if err != nil || n < tidyBatch {
				break
			}
		}
	}
}
