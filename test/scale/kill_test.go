package scale

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

var (
	rounds = flag.Int("rounds", 6, "how often the daemon is killed")
	seed   = flag.Uint64("seed", 1, "fixes when it is")
)

// TestKilledRuns kills the daemon while containers that remove themselves come and
// go. Afterwards each is gone, or is a whole container that was never started.
func TestKilledRuns(t *testing.T) {
	r := newRig(t)
	r.warm()
	before := r.count()
	rnd := rand.New(rand.NewPCG(*seed, 0))
	whole := 0
	for range *rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for ctx.Err() == nil && r.run(ctx) == nil {
				}
			})
		}
		time.Sleep(time.Duration(10+rnd.IntN(150)) * time.Millisecond)
		r.end(os.Kill)
		cancel()
		wg.Wait()
		r.api.Close()
		r.start()
		whole += r.startLeft()
	}
	t.Logf("%d containers were made and not started when the daemon was killed", whole)
	r.sameAs(before, map[string]int{"descriptors": 8, "goroutines": 8, "shims": 2})
}

// run takes a container from nothing to nothing.
func (r *rig) run(ctx context.Context) error {
	c, err := r.api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: "box", Cmd: []string{"true"}},
		HostConfig: &container.HostConfig{NetworkMode: "none", AutoRemove: true}})
	if err != nil {
		return err
	}
	ended := r.api.ContainerWait(ctx, c.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := r.api.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
		return err
	}
	select {
	case got := <-ended.Result:
		if got.StatusCode != 0 {
			r.t.Errorf("container %s ended with %d", c.ID, got.StatusCode)
		}
		if _, err := r.api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{}); err == nil {
			r.t.Errorf("container %s is there though it is removed", c.ID)
		}
		return nil
	case err := <-ended.Error:
		return err
	}
}

// startLeft starts what was made and never started, which must work, and waits until
// everything is gone.
func (r *rig) startLeft() (started int) {
	r.t.Helper()
	var last []container.Summary
	for began := time.Now(); time.Since(began) < settleWait; time.Sleep(20 * time.Millisecond) {
		all, err := r.api.ContainerList(r.t.Context(), client.ContainerListOptions{All: true})
		if err != nil {
			r.t.Fatal(err)
		}
		if last = all.Items; len(last) == 0 {
			return started
		}
		for _, c := range last {
			r.made[c.ID] = true
			if c.State != container.StateCreated {
				continue
			}
			started++
			if _, err := r.api.ContainerStart(r.t.Context(), c.ID, client.ContainerStartOptions{}); err != nil && !errdefs.IsNotFound(err) {
				r.t.Errorf("container %s, which was made before the daemon was killed: %v", c.ID, err)
			}
		}
	}
	for _, c := range last {
		r.t.Errorf("container %s stays: %s", c.ID, c.Status)
	}
	r.t.FailNow()
	return started
}
