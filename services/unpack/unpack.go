// Package unpack makes snapshots of an image's layers.
//
// # Two ways
//
// Where the snapshotter takes layers side by side ([snapshotters.LayerStore]),
// each is unpacked from a stream, for example while it is being fetched, and all
// are made durable and named at the end, at once. Elsewhere they are unpacked one
// after the other onto their parents, from the store.
//
// # Trust
//
// Layers are hostile. Every one's uncompressed bytes are hashed and must be what
// the config says, and their number is bounded, before its snapshot gets a name.
// A crash leaves unnamed layers, which the next start removes, or an active
// snapshot, which its lease gives to the collector.
package unpack

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/diff"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/layer"
)

// Config bounds what is unpacked.
type Config struct {
	// MaxLayerBytes is how many bytes one layer may unpack to; 0 is no bound.
	MaxLayerBytes int64 `toml:"max_layer_bytes"`
}

// DefaultConfig is what an empty config means: 32 GiB, several times the largest
// layers that are published.
func DefaultConfig() Config { return Config{MaxLayerBytes: 32 << 30} }

// Validate checks the values.
func (c Config) Validate() error {
	if c.MaxLayerBytes < 0 {
		return fmt.Errorf("max_layer_bytes is %d, it must not be negative", c.MaxLayerBytes)
	}
	return nil
}

// Stores are where layers come from and go to.
type Stores struct {
	Content content.Store
	Leases  lease.Manager
	// Layers finds a snapshotter that takes layers side by side; NotImplemented
	// where it needs parents first.
	Layers func(name string) (snapshotters.LayerStore, error)
	// Snapshots finds any snapshotter.
	Snapshots func(name string) (snapshotters.Snapshotter, error)
	// Applier unpacks onto mounts.
	Applier diff.Applier
	// Default names the snapshotter that is meant by none, in the context's
	// namespace.
	Default func(ctx context.Context) string
}

// Unpacker unpacks. It is safe for concurrent use.
type Unpacker struct {
	cfg    Config
	stores Stores
}

// New makes an Unpacker.
func New(cfg Config, stores Stores) *Unpacker { return &Unpacker{cfg, stores} }

// Target says for which platform and with which snapshotter to unpack. The zero
// value means the host's and the default.
type Target struct {
	Platform    ocispec.Platform
	Snapshotter string
}

// Image is what is unpacked.
type Image struct {
	Config   ocispec.Image
	ConfigAt ocispec.Descriptor
	Layers   []ocispec.Descriptor
}

// Plan is what an image's layers become in one snapshotter. Its methods may be
// called for several layers at once.
type Plan struct {
	u       *Unpacker
	img     Image
	name    string                   // of the snapshotter
	steps   snapshotters.Snapshotter // nil: nothing to unpack
	streams snapshotters.LayerStore  // nil: one after the other
	chains  []string
	have    int // how many of the lowest layers are unpacked already

	mu     sync.Mutex // guards layers
	layers map[int]snapshotters.Layer
}

// Plan looks which layers are unpacked already. An image for none of the targets'
// platforms gives a plan with nothing to do.
func (u *Unpacker) Plan(ctx context.Context, targets []Target, img Image) (*Plan, error) {
	p := &Plan{u: u, img: img, chains: ChainIDs(img.Config.RootFS.DiffIDs), layers: map[int]snapshotters.Layer{}}
	name, ok := u.snapshotter(ctx, targets, img.Config.Platform)
	if !ok {
		return p, nil
	}
	if len(p.chains) != len(img.Layers) {
		return nil, fmt.Errorf("the config names %d layers, the manifest %d: %w", len(p.chains), len(img.Layers), errdefs.ErrInvalidArgument)
	}
	for _, d := range img.Config.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, fmt.Errorf("the config has diff ID %.200q: %w: %w", d, err, errdefs.ErrInvalidArgument)
		}
	}
	if err := p.open(name); err != nil {
		return nil, err
	}
	for p.have < len(p.chains) {
		if _, err := p.steps.Stat(ctx, p.chains[p.have]); err != nil {
			break
		}
		p.have++
	}
	return p, p.hold(ctx)
}

// open finds the snapshotter.
func (p *Plan) open(name string) error {
	streams, err := p.u.stores.Layers(name)
	if err == nil {
		p.name, p.steps, p.streams = name, streams, streams
		return nil
	}
	if !errdefs.IsNotImplemented(err) {
		return err
	}
	p.name = name
	p.steps, err = p.u.stores.Snapshots(name)
	return err
}

// hold makes the context's lease hold what is unpacked already.
func (p *Plan) hold(ctx context.Context) error {
	id, ok := lease.From(ctx)
	if !ok || p.have == 0 {
		return nil
	}
	return p.u.stores.Leases.AddResource(ctx, id, lease.Resource{ID: p.chains[p.have-1], Type: "snapshots/" + p.name})
}

func (u *Unpacker) snapshotter(ctx context.Context, targets []Target, have ocispec.Platform) (string, bool) {
	for _, t := range targets {
		want := t.Platform
		if want.OS == "" {
			want = platforms.DefaultSpec()
		}
		if have.OS != "" && !platforms.Only(want).Match(have) {
			continue
		}
		if t.Snapshotter == "" {
			return u.stores.Default(ctx), true
		}
		return t.Snapshotter, true
	}
	return "", false
}

// Needs reports whether layer i is still to be unpacked, and Streams whether that
// can be done from a stream, by [Plan.Layer].
func (p *Plan) Needs(i int) bool   { return p.steps != nil && i >= p.have }
func (p *Plan) Streams(i int) bool { return p.Needs(i) && p.streams != nil }

// Layer decompresses, hashes and unpacks the blob of layer i, and checks its diff
// ID.
func (p *Plan) Layer(ctx context.Context, i int, blob io.Reader) error {
	tar, err := layer.Decompress(blob, p.img.Layers[i].MediaType)
	if err != nil {
		return err
	}
	defer tar.Close()
	want := p.img.Config.RootFS.DiffIDs[i]
	verifier := want.Verifier()
	hashed := io.TeeReader(p.u.bound(ctx, tar), verifier)
	l, err := p.streams.UnpackLayer(ctx, hashed, map[string]string{label.SnapshotRef: p.chains[i]})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, hashed)
	if err == nil && !verifier.Verified() {
		err = fmt.Errorf("the uncompressed layer is not %s, as the config says: %w", want, errdefs.ErrDataLoss)
	}
	if err != nil {
		return dropped(err, p.streams.DropLayers(context.WithoutCancel(ctx), []snapshotters.Layer{l}))
	}
	p.add(i, l)
	return nil
}

// Stored unpacks layer i from the store, if that is to be done and can be by
// itself.
func (p *Plan) Stored(ctx context.Context, i int) error {
	if !p.Streams(i) {
		return nil
	}
	ra, err := p.u.stores.Content.ReaderAt(ctx, p.img.Layers[i])
	if err != nil {
		return err
	}
	defer ra.Close()
	return p.Layer(ctx, i, io.NewSectionReader(ra, 0, ra.Size()))
}

func (p *Plan) add(i int, l snapshotters.Layer) {
	l.Name, l.Parent = p.chains[i], p.parent(i)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.layers[i] = l
}

func (p *Plan) parent(i int) string {
	if i == 0 {
		return ""
	}
	return p.chains[i-1]
}

func (p *Plan) ordered() []snapshotters.Layer {
	var out []snapshotters.Layer
	for i := p.have; i < len(p.chains); i++ {
		if l, ok := p.layers[i]; ok {
			out = append(out, l)
		}
	}
	return out
}

// Finish names the layers and makes the image's config hold them. All blobs are
// in the store by now.
func (p *Plan) Finish(ctx context.Context) error {
	var err error
	switch {
	case p.steps == nil || len(p.chains) == 0:
		return nil
	case p.streams == nil:
		err = p.stepwise(ctx)
	case len(p.layers) > 0:
		err = p.streams.CommitLayers(ctx, p.ordered())
	}
	if err != nil {
		return err
	}
	key := label.GCSnapshot + p.name
	_, err = p.u.stores.Content.Update(ctx, content.Info{
		Digest: p.img.ConfigAt.Digest, Labels: map[string]string{key: p.chains[len(p.chains)-1]},
	}, "labels."+key)
	return err
}

// Drop removes what was unpacked, in place of Finish.
func (p *Plan) Drop(ctx context.Context) error {
	if p.streams == nil {
		return nil
	}
	return p.streams.DropLayers(context.WithoutCancel(ctx), p.ordered())
}

// ChainIDs names the stacks of layers (image-spec, "Layer ChainID").
func ChainIDs(diffIDs []digest.Digest) []string {
	out := make([]string, len(diffIDs))
	for i, d := range diffIDs {
		if i == 0 {
			out[i] = d.String()
		} else {
			out[i] = digest.FromString(out[i-1] + " " + d.String()).String()
		}
	}
	return out
}

// DiffID is the digest of layer i's uncompressed bytes, where the config says.
func (p *Plan) DiffID(i int) (digest.Digest, bool) {
	if all := p.img.Config.RootFS.DiffIDs; i < len(all) {
		return all[i], true
	}
	return "", false
}
