package build

import (
	"context"
	"errors"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/bklog"
	"google.golang.org/grpc"
)

// trimmer keeps the cache within its bound: after a build, when its results have been
// let go of. BuildKit does so itself, but once a minute at most, in which builds may
// write any amount.
type trimmer struct {
	worker *worker
	temp   string        // is swept, too, if it is ours
	due    chan struct{} // holds one
	ended  chan struct{}
}

// Pauses of the trimmer: for a build's results to be let go of, and between two looks
// at the cache, which take time in proportion to its records.
const (
	trimAfter = time.Second
	trimEvery = 5 * time.Second
)

func newTrimmer(w *worker, temp string) *trimmer {
	return &trimmer{worker: w, temp: temp, due: make(chan struct{}, 1), ended: make(chan struct{})}
}

// built says that a build has ended.
func (t *trimmer) built() {
	select {
	case t.due <- struct{}{}:
	default: // it is on its way
	}
}

// run trims until stop is closed.
func (t *trimmer) run(stop <-chan struct{}) {
	defer close(t.ended)
	ctx, cancel := context.WithCancel(in(context.Background()))
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-t.due:
		case <-stop:
			return
		}
		if !pause(stop, trimAfter) {
			return
		}
		t.trim(ctx)
		if !pause(stop, trimEvery-trimAfter) {
			return
		}
	}
}

// pause tells whether it ended by itself.
func pause(stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	}
}

func (t *trimmer) trim(ctx context.Context) {
	dropped := make(chan client.UsageInfo)
	said := make(chan struct{})
	go func() {
		defer close(said)
		for range dropped {
		}
	}()
	err := t.worker.Prune(ctx, dropped, t.worker.GCPolicy()...)
	close(dropped)
	<-said
	if t.temp != "" {
		err = errors.Join(err, sweepForgotten(t.temp, time.Now()))
	}
	if err != nil && ctx.Err() == nil {
		bklog.G(ctx).WithError(err).Warn("the cache of builds was not trimmed")
	}
}

// intercept sees the ends of builds that come by gRPC.
func (t *trimmer) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.FullMethod == controlapi.Control_Solve_FullMethodName {
		defer t.built()
	}
	return handle(ctx, req)
}
