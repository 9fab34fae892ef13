package lease

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/orlop/orlop/core/label"
)

// Hold makes a lease, named by prefix, and returns a context whose creations it
// holds. End ends it, unless keep is set: then it holds them until life is over,
// so that a second try finds what the first one brought. A context that has a
// lease already keeps that one, which is its owner's to end.
func Hold(ctx context.Context, m Manager, prefix string, life time.Duration) (held context.Context, end func(keep bool), err error) {
	if _, ok := From(ctx); ok {
		return ctx, func(bool) {}, nil
	}
	l, err := m.Create(ctx, Lease{
		ID:     prefix + "-" + rand.Text(),
		Labels: map[string]string{label.GCExpire: time.Now().Add(life).UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return ctx, nil, err
	}
	clean := context.WithoutCancel(ctx)
	return With(ctx, l.ID), func(keep bool) {
		if !keep {
			_ = m.Delete(clean, l.ID, false) // else it expires
		}
	}, nil
}
