package pull

import (
	"context"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/namespaces"
)

// choose parts an index's manifests into those whose content is wanted, the best
// for each platform, and, where their metadata is, the others.
func (j *job) choose(all []ocispec.Descriptor) (wanted, others []ocispec.Descriptor) {
	taken := make([]bool, len(all))
	switch {
	case len(j.Platforms) == 0:
		for i := range taken {
			taken[i] = true
		}
	case len(all) == 1 && all[0].Platform == nil:
		taken[0] = true // its config tells, and a layer has no other
	}
	for _, p := range j.Platforms {
		if i := best(all, platforms.Only(p)); i >= 0 {
			taken[i] = true
		}
	}
	for i, d := range all {
		switch {
		case taken[i] && (j.Limit == 0 || len(wanted) < j.Limit):
			wanted = append(wanted, d)
		case j.AllMetadata:
			others = append(others, d)
		}
	}
	return wanted, others
}

// best is the index of the manifest that suits best, -1 if none does.
func best(all []ocispec.Descriptor, match platforms.MatchComparer) int {
	found := -1
	for i, d := range all {
		if d.Platform == nil || !match.Match(*d.Platform) {
			continue
		}
		if found < 0 || match.Less(*d.Platform, *all[found].Platform) {
			found = i
		}
	}
	return found
}

// turns lets pulls of one manifest follow each other.
type turns struct {
	mu    sync.Mutex
	taken map[string]*turn
}

type turn struct {
	free  chan struct{}
	users int
}

// take waits for the manifest's turn in the context's namespace.
func (t *turns) take(ctx context.Context, desc ocispec.Descriptor) (done func(), err error) {
	ns, _ := namespaces.From(ctx)
	key := ns + "/" + desc.Digest.String()
	t.mu.Lock()
	if t.taken == nil {
		t.taken = map[string]*turn{}
	}
	mine := t.taken[key]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		t.taken[key] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.taken, key)
		}
	}
	select {
	case mine.free <- struct{}{}:
		return func() { <-mine.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
