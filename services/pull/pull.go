// Package pull brings images from a registry into the store.
//
// # One stream a layer
//
// A layer's bytes are fetched, hashed, written to the content store,
// decompressed, hashed again and unpacked in one pass, and the layers of an
// image side by side. Only when all are there are they made durable, in one
// sync, and named, in one transaction.
//
// # Crash and failure
//
// Everything made is held by a lease that ends with the pull or after a day, so
// the collector takes what a dead pull left, and not before a second try could
// resume it. The image's name is set last; it never points at something
// incomplete.
package pull

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/snapshotters"
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

// Stores are where a pull puts things.
type Stores struct {
	Content content.Store
	Images  image.Store
	Leases  lease.Manager
	// Layers finds a snapshotter that takes layers side by side.
	Layers func(snapshotter string) (snapshotters.LayerStore, error)
}

// Puller pulls. It is safe for concurrent use; its limits hold over all pulls.
type Puller struct {
	stores Stores
	slots  *semaphore.Weighted
}

// New makes a Puller.
func New(cfg Config, stores Stores) *Puller {
	return &Puller{stores: stores, slots: semaphore.NewWeighted(max(cfg.MaxDownloads, 1))}
}

// Progress tells how a pull gets on.
type Progress struct {
	Event   string // "resolved", "waiting", "downloading", "extracting", "complete", "saved"
	Name    string
	Parents []string
	Done    int64 // bytes
	Total   int64 // bytes
	Desc    *ocispec.Descriptor
}

// Unpack says for which platform and snapshotter to unpack.
type Unpack struct {
	Platform    ocispec.Platform
	Snapshotter string
}

// Request is one pull.
type Request struct {
	Client    *remote.Client
	Reference string
	// Name is what to call the image; empty is the canonical reference.
	Name   string
	Labels map[string]string
	// Platforms whose content to fetch; empty means the host's.
	Platforms    []ocispec.Platform
	AllPlatforms bool
	Unpacks      []Unpack
	Report       func(Progress) // nil: nobody listens
}

// Pull fetches, verifies, unpacks and names an image.
func (p *Puller) Pull(ctx context.Context, r Request) (image.Image, error) {
	ref, err := remote.ParseReference(r.Reference)
	if err != nil {
		return image.Image{}, err
	}
	ctx, done, err := p.withLease(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer done()
	j := &job{Puller: p, Request: r, ref: ref}
	j.report(Progress{Event: "Resolving", Name: ref.Name})
	target, body, err := r.Client.Resolve(ctx, ref)
	if err != nil {
		return image.Image{}, fmt.Errorf("pull %q: %w", r.Reference, err)
	}
	if target.MediaType, err = manifestType(body, target.MediaType); err != nil {
		return image.Image{}, fmt.Errorf("pull %q: %w", r.Reference, err)
	}
	j.report(Progress{Event: "Resolved", Name: ref.Name, Desc: &target})
	if err := j.tree(ctx, target, body, nil); err != nil {
		return image.Image{}, fmt.Errorf("pull %q: %w", r.Reference, err)
	}
	if j.matched == 0 {
		return image.Image{}, fmt.Errorf("pull %q: no manifest for platform %s: %w", r.Reference, platforms.FormatAll(j.want()[0]), errdefs.ErrNotFound)
	}
	img, err := p.name(ctx, image.Image{Name: r.nameFor(ref), Labels: r.Labels, Target: target})
	if err == nil {
		j.report(Progress{Event: "saved", Name: img.Name, Desc: &target})
	}
	return img, err
}

func (r Request) nameFor(ref remote.Reference) string {
	if r.Name != "" {
		return r.Name
	}
	return ref.Name
}

// withLease holds everything made until done, which lets the image's name hold it.
func (p *Puller) withLease(ctx context.Context) (context.Context, func(), error) {
	if _, ok := lease.From(ctx); ok {
		return ctx, func() {}, nil
	}
	l, err := p.stores.Leases.Create(ctx, lease.Lease{
		ID:     "pull-" + rand.Text(),
		Labels: map[string]string{label.GCExpire: time.Now().Add(leaseLife).UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return ctx, nil, err
	}
	clean := context.WithoutCancel(ctx)
	return lease.With(ctx, l.ID), func() { p.stores.Leases.Delete(clean, l.ID, false) }, nil
}

// name points the image's name at the target.
func (p *Puller) name(ctx context.Context, img image.Image) (image.Image, error) {
	for {
		out, err := p.stores.Images.Create(ctx, img)
		if !errdefs.IsAlreadyExists(err) {
			return out, err
		}
		out, err = p.stores.Images.Update(ctx, img, "target", "labels")
		if !errdefs.IsNotFound(err) {
			return out, err
		}
	}
}

// job is one pull under way.
type job struct {
	*Puller
	Request
	ref     remote.Reference
	matched int
}

func (j *job) report(p Progress) {
	if j.Report != nil {
		j.Report(p)
	}
}

func (j *job) want() []ocispec.Platform {
	if len(j.Platforms) > 0 {
		return j.Platforms
	}
	return []ocispec.Platform{platforms.DefaultSpec()}
}

// matcher tells which manifests of an index are wanted; nil is all.
func (j *job) matcher() platforms.MatchComparer {
	if j.AllPlatforms {
		return platforms.All
	}
	if len(j.Platforms) == 0 {
		return platforms.Default()
	}
	return platforms.Ordered(j.Platforms...)
}

// tree fetches what hangs on a manifest or index, children before parents, so
// that a parent in the store has all its children.
func (j *job) tree(ctx context.Context, desc ocispec.Descriptor, body []byte, parents []string) error {
	m, err := parse(desc, body)
	if err != nil {
		return err
	}
	if m.index {
		err = j.children(ctx, m, append(parents, desc.Digest.String()))
	} else {
		err = j.manifest(ctx, desc, m)
	}
	if err != nil {
		return err
	}
	return j.store(ctx, desc, body, m.labels())
}

func (j *job) children(ctx context.Context, m manifest, parents []string) error {
	for _, child := range j.choose(m.Manifests) {
		body, err := j.fetchManifest(ctx, child)
		if err != nil {
			return err
		}
		if err := j.tree(ctx, child, body, parents); err != nil {
			return err
		}
	}
	return nil
}

// choose picks the manifests for the wanted platforms: the best one for each.
func (j *job) choose(all []ocispec.Descriptor) []ocispec.Descriptor {
	if j.AllPlatforms {
		return all
	}
	match := j.matcher()
	var best *ocispec.Descriptor
	var out []ocispec.Descriptor
	for i, d := range all {
		if d.Platform == nil || !match.Match(*d.Platform) {
			continue
		}
		if len(j.Platforms) > 1 {
			out = append(out, d)
		} else if best == nil || match.Less(*d.Platform, *best.Platform) {
			best = &all[i]
		}
	}
	if best != nil {
		out = append(out, *best)
	}
	if out == nil && len(all) == 1 && all[0].Platform == nil {
		return all
	}
	return out
}

func (j *job) fetchManifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if body, err := content.ReadBlob(ctx, j.stores.Content, desc, remote.MaxManifest); err == nil {
		return body, nil
	}
	return j.Client.Manifest(ctx, j.ref, desc)
}

// manifest fetches an image's config and layers and unpacks them.
func (j *job) manifest(ctx context.Context, desc ocispec.Descriptor, m manifest) error {
	j.matched++
	cfg, err := j.config(ctx, m.Config)
	if err != nil {
		return err
	}
	plan, err := j.plan(ctx, cfg, m.Layers)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for i := range m.Layers {
		g.Go(func() error { return j.layer(gctx, desc, m.Layers[i], plan, i) })
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, plan.drop(context.WithoutCancel(ctx)))
	}
	if err := plan.commit(ctx); err != nil {
		return err
	}
	return j.linkConfig(ctx, m.Config, plan)
}
