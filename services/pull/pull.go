// Package pull brings images from a registry into the store.
//
// # One stream a layer
//
// A layer's bytes are fetched, hashed, written to the content store,
// decompressed, hashed again and unpacked in one pass, and the layers of an
// image side by side. Only when all are there are they made durable, in one
// sync, and named, in one transaction. A connection that breaks off is taken up
// again within the stream.
//
// # Crash and failure
//
// Everything made is held by a lease that ends with the pull or, where a second
// try could go on, after a day, so the collector takes what a dead pull left, and
// not before. The image's name is set last; it never points at something
// incomplete.
//
// # Concurrency
//
// Two pulls of one manifest in one namespace take turns, so that the second finds
// all there. Downloads are bounded over all pulls.
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/unpack"
)

// leaseLife is how long what a dead pull left can be resumed.
const leaseLife = 24 * time.Hour

// Config bounds pulls.
type Config struct {
	// MaxDownloads is how many blobs are fetched at once, over all pulls.
	MaxDownloads int64 `toml:"max_concurrent_downloads"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config { return Config{MaxDownloads: 6} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxDownloads < 1 {
		return fmt.Errorf("max_concurrent_downloads is %d, it must be at least 1", c.MaxDownloads)
	}
	return nil
}

// Stores are where a pull puts things.
type Stores struct {
	Content content.Store
	Leases  lease.Manager
	Unpack  *unpack.Unpacker
}

// Puller pulls. It is safe for concurrent use; its limits hold over all pulls.
type Puller struct {
	stores Stores
	slots  *semaphore.Weighted
	turns  turns
	done   atomic.Pointer[func(took time.Duration, err error)]
}

// New makes a Puller.
func New(cfg Config, stores Stores) *Puller {
	return &Puller{stores: stores, slots: semaphore.NewWeighted(max(cfg.MaxDownloads, 1))}
}

// OnDone sets what is told of every pull that ended from now on, for figures.
func (p *Puller) OnDone(fn func(took time.Duration, err error)) { p.done.Store(&fn) }

// Request is one pull.
type Request struct {
	Client    *remote.Client
	Reference string
	// Platforms whose content to fetch; empty means all.
	Platforms []ocispec.Platform
	// AllMetadata fetches the manifests and configs of the other platforms, too.
	AllMetadata bool
	// Limit is how many manifests of an index to fetch at most, the best first;
	// 0 is no limit.
	Limit   int
	Unpacks []unpack.Target
	// Name gives the image its names, while a lease holds it.
	Name   func(ctx context.Context, target ocispec.Descriptor) error
	Report progress.Func
}

// Pull fetches, verifies, unpacks and names an image, and returns what the name
// points at.
func (p *Puller) Pull(ctx context.Context, r Request) (ocispec.Descriptor, error) {
	began := time.Now()
	target, err := p.pull(ctx, r)
	if done := p.done.Load(); done != nil {
		(*done)(time.Since(began), err)
	}
	return target, err
}

func (p *Puller) pull(ctx context.Context, r Request) (ocispec.Descriptor, error) {
	ref, err := remote.ParseReference(r.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	ctx, end, err := lease.Hold(ctx, p.stores.Leases, "pull", leaseLife)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	j := &job{Puller: p, Request: r, ref: ref}
	target, err := j.run(ctx)
	end(err != nil && j.matched > 0 && resumable(ctx, err))
	if err != nil {
		return target, fmt.Errorf("pull %q: %w", r.Reference, err)
	}
	return target, nil
}

// resumable reports whether a second try may go on where this one stopped.
func resumable(ctx context.Context, err error) bool {
	var net net.Error
	var sink errSink
	if errors.As(err, &sink) {
		return false
	}
	return ctx.Err() != nil || errdefs.IsUnavailable(err) || errors.As(err, &net) || errors.Is(err, io.ErrUnexpectedEOF)
}

// job is one pull under way.
type job struct {
	*Puller
	Request
	ref       remote.Reference
	matched   int // manifests whose layers are fetched
	manifests int // and all there were
}

func (j *job) run(ctx context.Context) (ocispec.Descriptor, error) {
	j.Report.Report(progress.Step{Event: "Resolving " + j.ref.Name})
	target, body, err := j.Client.Resolve(ctx, j.ref)
	if err != nil {
		return target, err
	}
	if target.MediaType, err = manifest.TypeOf(body, target.MediaType); err != nil {
		return target, err
	}
	j.Report.Report(progress.Step{Event: "Pulling " + j.ref.Name})
	j.Report.Report(progress.Step{Event: "fetching", Name: j.ref.Name})
	if err := j.tree(ctx, target, body, node{parents: []string{j.ref.Name}, wanted: true}); err != nil {
		return target, err
	}
	if j.matched == 0 && len(j.Platforms) > 0 {
		return target, fmt.Errorf("no manifest for platform %s: %w", platforms.FormatAll(j.Platforms[0]), errdefs.ErrNotFound)
	}
	if err := j.Name(ctx, target); err != nil {
		return target, err
	}
	j.Report.Report(progress.Step{Event: "saved", Name: j.ref.Name, Desc: &target})
	j.Report.Report(progress.Step{Event: "Completed pull of " + j.ref.Name})
	return target, nil
}

// node is a place in the tree of an image.
type node struct {
	parents []string // names in progress
	depth   int
	wanted  bool // layers are
}

// tree fetches what hangs on a manifest or index, children before parents, so
// that a parent in the store has all its children.
func (j *job) tree(ctx context.Context, desc ocispec.Descriptor, body []byte, at node) error {
	m, err := manifest.Parse(desc, body)
	if err != nil {
		return err
	}
	if j.manifests++; j.manifests > manifest.MaxManifests || at.depth > manifest.MaxDepth {
		return fmt.Errorf("image has more than %d manifests, or indexes deeper than %d: %w", manifest.MaxManifests, manifest.MaxDepth, errdefs.ErrInvalidArgument)
	}
	step := progress.Step{Event: "fetching", Name: manifest.Key(desc), Parents: at.parents, Total: desc.Size, Desc: &desc}
	j.Report.Report(step)
	at.parents = []string{step.Name}
	if m.Index {
		err = j.children(ctx, m, at)
	} else {
		err = j.manifest(ctx, desc, m, at)
	}
	if err == nil {
		err = j.store(ctx, desc, body, m.Labels())
	}
	if err == nil {
		step.Event, step.Done = "complete", desc.Size
		j.Report.Report(step)
	}
	return err
}

func (j *job) children(ctx context.Context, m manifest.Manifest, at node) error {
	wanted, others := j.choose(m.Manifests)
	if !at.wanted {
		wanted, others = nil, append(wanted, others...)
	}
	at.depth++
	for i, child := range append(wanted, others...) {
		at.wanted = i < len(wanted)
		body, err := j.fetchManifest(ctx, child)
		if err != nil && !at.wanted && errdefs.IsNotFound(err) {
			continue // some registries are filled for one platform only
		}
		if err != nil {
			return err
		}
		if err := j.tree(ctx, child, body, at); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) fetchManifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if body, err := content.ReadBlob(ctx, j.stores.Content, desc, manifest.MaxSize); err == nil {
		return body, nil
	}
	return j.Client.Manifest(ctx, j.ref, desc)
}

// manifest fetches an image's config and layers and unpacks them.
func (j *job) manifest(ctx context.Context, desc ocispec.Descriptor, m manifest.Manifest, at node) error {
	if !at.wanted {
		_, err := j.config(ctx, m.Config, at)
		return err
	}
	done, err := j.turns.take(ctx, desc)
	if err != nil {
		return err
	}
	defer done()
	j.matched++
	img, err := j.config(ctx, m.Config, at)
	if err != nil {
		return err
	}
	targets := j.Unpacks
	if !manifest.IsImageConfig(m.Config.MediaType) {
		targets = nil // an artifact
	}
	plan, err := j.stores.Unpack.Plan(ctx, targets, unpack.Image{Config: img, ConfigAt: m.Config, Layers: m.Layers})
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for i := range m.Layers {
		g.Go(func() error { return j.layer(gctx, m.Layers[i], plan, i, at) })
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, plan.Drop(ctx))
	}
	return plan.Finish(ctx)
}
