package scale

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

var (
	count   = flag.Int("containers", 60, "how many containers there are")
	running = flag.Int("running", 30, "how many of them run at once")
)

// workers is how many requests are made at once.
const workers = 8

// TestScale makes many containers, on the bridge and without a network, runs half of
// them, restarts the daemon under them, and removes all: nothing may be left.
func TestScale(t *testing.T) {
	r := newRig(t)
	r.warm()
	before := r.count()
	bare := memory(append(r.shims(), r.daemon.Process.Pid)...)

	ids := r.all("create", *count, func(ctx context.Context, i int) (string, error) { return r.create(ctx, i) })
	for _, id := range ids {
		r.made[id] = true
	}
	some := ids[:min(*running, len(ids))]
	r.each("start", some, func(ctx context.Context, id string) error {
		_, err := r.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
	r.look(len(ids), len(some))
	shims, daemon := r.shims(), r.daemon.Process.Pid
	t.Logf("memory (PSS): daemon %d KiB, %d shims %d KiB; all of it before: %d KiB", memory(daemon), len(shims), memory(shims...), bare)

	r.end(os.Interrupt)
	t.Logf("the daemon is there again after %s", r.start().Round(time.Millisecond))
	r.look(len(ids), len(some))
	r.end(os.Kill)
	t.Logf("killed, it is there again after %s", r.start().Round(time.Millisecond))
	r.look(len(ids), len(some))

	r.each("stop", some, func(ctx context.Context, id string) error {
		_, err := r.api.ContainerStop(ctx, id, client.ContainerStopOptions{})
		return err
	})
	r.look(len(ids), 0)
	r.each("rm", ids, func(ctx context.Context, id string) error {
		_, err := r.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
		return err
	})
	r.look(0, 0)
	// The runtime keeps some descriptors of its own, and two spare shims may be younger.
	r.sameAs(before, map[string]int{"descriptors": 8, "goroutines": 8, "shims": 1})
}

// warm makes what the first container makes for all.
func (r *rig) warm() {
	ids := r.all("", 2, func(ctx context.Context, i int) (string, error) { return r.create(ctx, i) })
	for _, id := range ids {
		if _, err := r.api.ContainerStart(r.t.Context(), id, client.ContainerStartOptions{}); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.api.ContainerRemove(r.t.Context(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// create makes the i-th container: every other one is on the bridge.
func (r *rig) create(ctx context.Context, i int) (string, error) {
	network := container.NetworkMode("none")
	if i%2 == 0 {
		network = "bridge"
	}
	c, err := r.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: "box", Cmd: []string{"sleep", "100000"}, StopSignal: "SIGKILL",
			Labels: map[string]string{"number": fmt.Sprint(i)}},
		HostConfig: &container.HostConfig{NetworkMode: network},
	})
	return c.ID, err
}

// look lists and inspects containers.
func (r *rig) look(all, running int) {
	r.t.Helper()
	for _, o := range []struct {
		what    string
		options client.ContainerListOptions
		want    int
	}{{"ps", client.ContainerListOptions{}, running}, {"ps -a", client.ContainerListOptions{All: true}, all}} {
		began := time.Now()
		got, err := r.api.ContainerList(r.t.Context(), o.options)
		if err != nil || len(got.Items) != o.want {
			r.t.Fatalf("%s: %d containers, want %d: %v", o.what, len(got.Items), o.want, err)
		}
		r.t.Logf("%-8s %6d   %s", o.what, o.want, time.Since(began).Round(10*time.Microsecond))
		if o.options.All && all > 0 {
			r.inspect(got.Items)
		}
	}
}

func (r *rig) inspect(list []container.Summary) {
	r.t.Helper()
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	r.each("inspect", ids, func(ctx context.Context, id string) error {
		_, err := r.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		return err
	})
}

// all makes n requests, some at once, and prints how long they took.
func (r *rig) all(what string, n int, fn func(ctx context.Context, i int) (string, error)) []string {
	r.t.Helper()
	out, took, errs := make([]string, n), make([]time.Duration, n), make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				began := time.Now()
				out[i], errs[i] = fn(r.t.Context(), i)
				took[i] = time.Since(began)
			}
		})
	}
	began := time.Now()
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	whole := time.Since(began)
	for i, err := range errs {
		if err != nil {
			r.t.Fatalf("%s of container %d: %v", what, i, err)
		}
	}
	if slices.Sort(took); what != "" && n > 0 {
		r.t.Logf("%-8s %6d   %s at half, %s at 99 %%, %s at most; %.0f/s, %d at once", what, n, took[n/2].Round(10*time.Microsecond),
			took[n*99/100].Round(10*time.Microsecond), took[n-1].Round(10*time.Microsecond), float64(n)/whole.Seconds(), workers)
	}
	return out
}

func (r *rig) each(what string, ids []string, fn func(ctx context.Context, id string) error) {
	r.t.Helper()
	r.all(what, len(ids), func(ctx context.Context, i int) (string, error) { return "", fn(ctx, ids[i]) })
}
