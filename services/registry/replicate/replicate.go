// Package replicate pushes what changes in a registry to others.
//
// # What is told
//
// A [Rule] chooses repositories and tags, and a target. What is put into or taken from
// the catalog is noted in the rule's queue of the outbox, in the same transaction; a
// worker then makes the target's name point at what this registry's points at by now.
// So a process that is killed at any moment tells it later, moves of a tag that follow
// each other quickly are told once, and what the target has is not sent again.
//
// A new rule, or one whose queue was full, begins with a survey: all repositories are
// looked at, one after the other; how far that has come outlives a restart. A survey
// doesn't find what was deleted.
//
// # When it fails
//
// What the target refuses is tried again later and later, up to every ten minutes,
// while the rest goes on. When the target can't be reached the whole rule waits, up to a
// minute, and nothing counts as tried. Nothing is given up, but deletions that the
// target doesn't do.
//
// A Replicator is safe for concurrent use.
package replicate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/core/registry"
	services "github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/remote"
)

// Rule is what goes where.
type Rule struct {
	// Name names the queue; it must not change.
	Name string
	// Repositories are those that are pushed; empty is all.
	Repositories registry.Patterns
	// Tags are those that are pushed; empty is all, and manifests without a tag, too.
	Tags registry.Patterns
	// Except are repositories that are not pushed, such as caches.
	Except func(repo string) bool
	// Host is the target, Prefix begins the names there.
	Host, Prefix string
	Client       *remote.Client
	// Deletes removes at the target what is removed here.
	Deletes bool
	// Parallel is how much is pushed side by side; 0 is [DefaultParallel].
	Parallel int
	// First and Last are the waits after the first try in vain and after many; 0 are
	// [DefaultFirst] and [DefaultLast].
	First, Last time.Duration
}

// Defaults and bounds.
const (
	DefaultParallel = 4
	maxParallel     = 64
	DefaultFirst    = time.Second
	DefaultLast     = 10 * time.Minute
	maxPause        = time.Minute // of a rule whose target can't be reached
	batch           = 100
)

// takes tells whether a change is the rule's.
func (r Rule) takes(repo, reference string) bool {
	if r.Except != nil && r.Except(repo) || len(r.Repositories) > 0 && !r.Repositories.Match(repo) {
		return false
	}
	if len(r.Tags) == 0 {
		return true
	}
	return !strings.Contains(reference, ":") && r.Tags.Match(reference)
}

// Parts are what a replicator works with.
type Parts struct {
	Catalog registry.Catalog
	Outbox  registry.Outbox
	Blobs   content.Provider
	// Namespace is where the blobs are.
	Namespace string
}

// Replicator pushes by all rules until it is closed.
type Replicator struct {
	parts   Parts
	workers []*worker
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// Open starts it. Queues of rules that are gone are removed.
func Open(rules []Rule, parts Parts) (*Replicator, error) {
	ctx, stop := context.WithCancel(namespaces.With(context.Background(), parts.Namespace))
	r := &Replicator{parts: parts, stop: stop}
	var names []string
	for _, rule := range rules {
		w, err := newWorker(rule, parts)
		if err != nil {
			stop()
			return nil, fmt.Errorf("replication %q: %w", rule.Name, err)
		}
		names, r.workers = append(names, rule.Name), append(r.workers, w)
	}
	err := parts.Outbox.Route(names, func(repo, reference string) (to []string) {
		for _, rule := range rules {
			if rule.takes(repo, reference) {
				to = append(to, rule.Name)
			}
		}
		return to
	})
	if err != nil {
		stop()
		return nil, err
	}
	for _, w := range r.workers {
		r.work.Go(func() { w.run(ctx) })
	}
	return r, nil
}

// Close stops at once; what is under way goes on at the next start.
func (r *Replicator) Close() error {
	r.stop()
	r.work.Wait()
	return nil
}

// Listen wakes those whose queue has something new. It never blocks.
func (r *Replicator) Listen(e services.Event) {
	if e.Kind == services.EventPull {
		return
	}
	for _, w := range r.workers {
		w.wake()
	}
}

// Status is how a rule is doing.
type Status struct {
	Name   string `json:"name"`
	Target string `json:"target"`
	// Waiting is how many references are to be told, Failing how many of them were
	// refused; Oldest since when the first waits.
	Waiting int        `json:"waiting"`
	Failing int        `json:"failing"`
	Oldest  *time.Time `json:"oldest,omitempty"`
	// Survey says that everything is being looked at.
	Survey bool `json:"survey"`
	// Pushed and Deleted are references, Bytes those of blobs and manifests that were
	// sent, since the start.
	Pushed  int64 `json:"pushed"`
	Deleted int64 `json:"deleted"`
	Bytes   int64 `json:"bytes"`
	Refused int64 `json:"refused"`
	// Last is when something was told last, Error what is wrong now.
	Last  *time.Time `json:"last,omitempty"`
	Error string     `json:"error,omitempty"`
}

// Status tells of all rules.
func (r *Replicator) Status(ctx context.Context) ([]Status, error) {
	out := []Status{}
	for _, w := range r.workers {
		s, err := w.status(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// Survey looks at everything again, by one rule; false if there is none of that name.
func (r *Replicator) Survey(ctx context.Context, name string) (bool, error) {
	for _, w := range r.workers {
		if w.rule.Name == name {
			err := r.parts.Outbox.Survey(ctx, name)
			w.wake()
			return true, err
		}
	}
	return false, nil
}

// Validate checks a rule.
func (r Rule) Validate() error {
	switch {
	case r.Name == "" || strings.ContainsAny(r.Name, "|/ "):
		return fmt.Errorf("name: %q names no queue", r.Name)
	case r.Parallel < 0 || r.Parallel > maxParallel:
		return fmt.Errorf("parallel: %d is not between 1 and %d", r.Parallel, maxParallel)
	case r.First < 0 || r.Last < 0:
		return errors.New("waits can't be negative")
	}
	_, err := remote.ParseReference(r.Host + "/" + r.Prefix + "x:x")
	return err
}

// isDigest tells a digest from a tag.
func isDigest(reference string) (digest.Digest, bool) {
	return digest.Digest(reference), strings.Contains(reference, ":")
}
