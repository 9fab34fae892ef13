// Package push sends images from the store to a registry.
//
// Blobs go before the manifests that refer to them, side by side; what the
// registry has is skipped; what it has in another repository, as the label
// containerd.io/distribution.source.<host> tells, is mounted there. The tag is
// set last, so a push that breaks off leaves no image that isn't whole. Referrers
// of an image are neither sent nor changed.
//
// A Pusher is safe for concurrent use; its limit holds over all pushes. Nothing
// is kept; a lease holds what is being sent.
package push

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
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
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/internal/voucher"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/remote"
)

// leaseLife is how long the lease of a push that was killed lives on.
const leaseLife = 24 * time.Hour

// Config bounds pushes.
type Config struct {
	// MaxUploads is how many blobs are sent at once, over all pushes.
	MaxUploads int64 `toml:"max_concurrent_uploads"`
}

// DefaultConfig is what an empty config means.
func DefaultConfig() Config { return Config{MaxUploads: 6} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxUploads < 1 {
		return fmt.Errorf("max_concurrent_uploads is %d, it must be at least 1", c.MaxUploads)
	}
	return nil
}

// Stores are where images come from.
type Stores struct {
	Content content.Store
	Images  image.Store
	Leases  lease.Manager
}

// Pusher pushes.
type Pusher struct {
	stores  Stores
	slots   *semaphore.Weighted
	voucher *voucher.Voucher
}

// New makes a Pusher.
func New(cfg Config, stores Stores) *Pusher {
	return &Pusher{stores: stores, slots: semaphore.NewWeighted(max(cfg.MaxUploads, 1)), voucher: voucher.New()}
}

// Voucher knows the requests of this pusher, for a registry in the same process.
func (p *Pusher) Voucher() *voucher.Voucher { return p.voucher }

// Request is one push.
type Request struct {
	Client *remote.Client
	// Image is the name in the store, Reference the one in the registry.
	Image, Reference string
	// Platforms to send; empty is all that are in the store whole.
	Platforms []ocispec.Platform
	Report    progress.Func
}

// Push sends an image, and returns what the registry's name points at now: the
// image's target, or, where only some of its manifests were sent, a smaller index
// or the one manifest.
func (p *Pusher) Push(ctx context.Context, r Request) (ocispec.Descriptor, error) {
	desc, err := p.push(ctx, r)
	if err != nil {
		return desc, fmt.Errorf("push %q: %w", r.Reference, err)
	}
	return desc, nil
}

func (p *Pusher) push(ctx context.Context, r Request) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	ref, err := remote.ParseReference(r.Reference)
	if err != nil {
		return none, err
	}
	img, err := p.stores.Images.Get(ctx, r.Image)
	if err != nil {
		return none, err
	}
	ctx, end, err := lease.Hold(ctx, p.stores.Leases, "push", leaseLife)
	if err != nil {
		return none, err
	}
	defer end(false)
	if id, ok := lease.From(ctx); ok {
		if err := p.stores.Leases.AddResource(ctx, id, lease.Resource{ID: img.Target.Digest.String(), Type: "content"}); err != nil {
			return none, err
		}
	}
	var match platforms.Matcher
	if len(r.Platforms) > 0 {
		match = platforms.Any(r.Platforms...)
	}
	chosen, err := manifest.Select(ctx, p.stores.Content, img.Target, match)
	if err != nil {
		return none, err
	}
	to, err := r.Client.Pusher(ref)
	if err != nil {
		return none, err
	}
	to.Voucher = p.voucher
	j := &job{Pusher: p, Request: r, ref: ref, to: to}
	return chosen.Root, j.run(ctx, chosen)
}

// job is one push under way.
type job struct {
	*Pusher
	Request
	ref remote.Reference
	to  *remote.Pusher
}

func (j *job) run(ctx context.Context, chosen manifest.Selection) error {
	j.Report.Report(progress.Step{Event: "Pushing to " + j.ref.Name})
	j.Report.Report(progress.Step{Event: "pushing content", Name: j.ref.Name})
	for _, left := range chosen.Left {
		j.Report.Report(progress.Step{Event: "skipped, not in the store", Name: left.Describe(), Parents: []string{j.ref.Name}, Desc: &left.Desc})
	}
	// A name with a digest can only be put as that very manifest.
	if d := j.ref.Digest; d != "" && d != chosen.Root.Digest {
		return fmt.Errorf("the reference names digest %s, what would be pushed is %s: %w", d, chosen.Root.Digest, errdefs.ErrInvalidArgument)
	}
	for _, img := range chosen.Images {
		if err := j.image(ctx, img, chosen.Root); err != nil {
			return err
		}
	}
	for _, idx := range chosen.Indexes {
		if err := j.manifest(ctx, idx.Desc, idx.Body, chosen.Root); err != nil {
			return err
		}
	}
	j.Report.Report(progress.Step{Event: "pushed", Name: j.ref.Name, Desc: &chosen.Root})
	j.Report.Report(progress.Step{Event: "Completed push to " + j.ref.Name})
	return nil
}

// image sends an image's blobs, then its manifest.
func (j *job) image(ctx context.Context, img manifest.Image, root ocispec.Descriptor) error {
	g, gctx := errgroup.WithContext(ctx)
	seen := map[string]bool{}
	for _, d := range img.All() {
		if seen[d.Digest.String()] || manifest.IsForeign(d.MediaType) {
			continue
		}
		seen[d.Digest.String()] = true
		g.Go(func() error { return j.blob(gctx, d) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	body, err := content.ReadBlob(ctx, j.stores.Content, img.Desc, manifest.MaxSize)
	if err != nil {
		return err
	}
	return j.manifest(ctx, img.Desc, body, root)
}

func (j *job) manifest(ctx context.Context, desc ocispec.Descriptor, body []byte, root ocispec.Descriptor) error {
	step := progress.Step{Event: "uploading", Name: manifest.Key(desc), Parents: []string{j.ref.Name}, Total: desc.Size, Desc: &desc}
	tag := ""
	if desc.Digest == root.Digest {
		tag = j.ref.Tag
	}
	there, err := j.to.Has(ctx, desc, tag)
	if err != nil && tag == "" {
		return err
	}
	if err != nil || !there { // a tag that can't be asked for is set
		j.Report.Report(step)
		if err := j.to.Manifest(ctx, desc, body, tag); err != nil {
			return err
		}
	}
	step.Event, step.Done = done(there), desc.Size
	j.Report.Report(step)
	return j.noteSource(ctx, desc)
}

func done(there bool) string {
	if there {
		return "already exists"
	}
	return "complete"
}

// blob sends one blob unless the registry has it.
func (j *job) blob(ctx context.Context, desc ocispec.Descriptor) error {
	step := progress.Step{Event: "waiting", Name: manifest.Key(desc), Parents: []string{j.ref.Name}, Total: desc.Size, Desc: &desc}
	j.Report.Report(step)
	if err := j.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer j.slots.Release(1)
	there, err := j.to.Has(ctx, desc, "")
	if err != nil {
		return err
	}
	event := done(there)
	if !there {
		mounted, err := j.send(ctx, desc, step)
		if err != nil {
			return err
		}
		if mounted {
			event = "mounted"
		}
	}
	step.Event, step.Done = event, desc.Size
	j.Report.Report(step)
	return j.noteSource(ctx, desc)
}

func (j *job) send(ctx context.Context, desc ocispec.Descriptor, step progress.Step) (mounted bool, err error) {
	info, err := j.stores.Content.Info(ctx, desc.Digest)
	if err != nil {
		return false, err
	}
	ra, err := j.stores.Content.ReaderAt(ctx, desc)
	if err != nil {
		return false, err
	}
	defer ra.Close()
	if ra.Size() != desc.Size {
		return false, fmt.Errorf("blob %s has %d bytes, the manifest says %d: %w", desc.Digest, ra.Size(), desc.Size, errdefs.ErrDataLoss)
	}
	step.Event = "uploading"
	j.Report.Report(step)
	return j.to.Blob(ctx, desc, nearest(sources(info.Labels, j.ref.Host), j.ref.Repository), func(offset, n int64) io.Reader {
		at := step
		at.Done = offset
		return j.Report.NewReader(io.NewSectionReader(ra, offset, n), at)
	})
}

// sources are the repositories of a registry that have a blob. containerd's clients
// leave the port out of the label; if that means another registry, the mount fails
// and the blob is sent.
func sources(labels map[string]string, host string) string {
	list := labels[label.DistributionFrom+host]
	if name, _, err := net.SplitHostPort(host); err == nil {
		list += "," + labels[label.DistributionFrom+name]
	}
	return list
}

// nearest chooses from repositories, joined by commas, the one whose path has most
// in common with ours: its rights will be like ours. It returns "" for none.
func nearest(sources, own string) string {
	found, most := "", -1
	for repo := range strings.SplitSeq(sources, ",") {
		if repo == "" || repo == own {
			continue
		}
		if n := common(repo, own); n > most {
			found, most = repo, n
		}
	}
	return found
}

// common counts the leading parts that two paths share.
func common(a, b string) int {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	return n
}

// noteSource notes that the registry has the blob in our repository, so that the
// next push can mount it. A blob that was made for this push isn't in the store.
func (j *job) noteSource(ctx context.Context, desc ocispec.Descriptor) error {
	info, err := j.stores.Content.Info(ctx, desc.Digest)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	key := label.DistributionFrom + j.ref.Host
	list := label.AddSource(info.Labels[key], j.ref.Repository)
	if list == info.Labels[key] {
		return nil
	}
	_, err = j.stores.Content.Update(ctx, content.Info{Digest: desc.Digest, Labels: map[string]string{key: list}}, "labels."+key)
	return err
}
