package collect

import (
	"context"
	"time"

	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/metadata"
)

// Result tells what one collection did, or would do.
type Result struct {
	Removed []Removed
	// Kept counts the objects that something refers to.
	Kept int
	// Pause is the longest time a writer had to wait, Took the time in all.
	Pause, Took time.Duration
}

// Removed is one object that nothing referred to, with the bytes it had, as far
// as known.
type Removed struct {
	Node  gc.Node
	Bytes int64
}

// Database is what is collected.
type Database interface {
	Collector
	DryCollect(ctx context.Context) (metadata.Stats, error)
}

// Now collects at once, or only tells what that would remove.
func Now(ctx context.Context, db Database, dry bool) (Result, error) {
	collect := db.Collect
	if dry {
		collect = db.DryCollect
	}
	began := time.Now()
	st, err := collect(ctx)
	res := Result{Pause: st.Pause, Took: time.Since(began)}
	for _, n := range st.Live {
		res.Kept += n
	}
	for _, x := range st.Removed {
		res.Removed = append(res.Removed, Removed(x))
	}
	return res, err
}
