// Package imagerig is what tests of images' ways need: the real stores in a
// temporary folder with the services over them, made images, and a registry in
// this process that can be told to misbehave.
package imagerig

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/content/local"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/diff"
	"github.com/orlop/orlop/services/events"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/snapshotters"
	"github.com/orlop/orlop/snapshotters/native"
	"github.com/orlop/orlop/snapshotters/overlayfs"
)

// Config bounds the services of a rig.
type Config struct {
	Pull    pull.Config
	Push    push.Config
	Archive archive.Config
	Unpack  unpack.Config
}

// Rig is the stores and what works on them. Ctx has a namespace and ends with the
// test.
type Rig struct {
	t       testing.TB
	Ctx     context.Context
	Root    string
	DB      *metadata.DB
	Content content.Store
	Images  image.Store
	Leases  lease.Manager
	*transfer.Service
}

// New opens stores with the default bounds.
func New(t testing.TB) *Rig {
	return NewWith(t, Config{pull.DefaultConfig(), push.DefaultConfig(), archive.DefaultConfig(), unpack.DefaultConfig()})
}

// NewWith opens stores. As root there are the snapshotters overlayfs, which takes
// layers side by side, and native, which doesn't.
func NewWith(t testing.TB, cfg Config) *Rig {
	t.Helper()
	root := t.TempDir()
	blobs, err := local.Open(filepath.Join(root, "content"))
	fatal(t, err)
	drivers := map[string]snapshotters.Driver{}
	if os.Geteuid() == 0 {
		over, err := overlayfs.Open(filepath.Join(root, "overlayfs"), overlayfs.Config{})
		fatal(t, err)
		nat, err := native.Open(filepath.Join(root, "native"))
		fatal(t, err)
		drivers["overlayfs"], drivers["native"] = over, nat
		t.Cleanup(func() { over.Close(); nat.Close() })
	}
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.DefaultConfig(),
		metadata.Backends{Content: blobs, Drivers: drivers, Events: &events.Exchange{}})
	fatal(t, err)
	t.Cleanup(func() { db.Close() })
	ctx, cancel := context.WithCancel(namespaces.With(context.Background(), "default"))
	t.Cleanup(cancel)
	fatal(t, db.Namespaces().Create(ctx, namespaces.Info{Name: "default"}))
	r := &Rig{t: t, Ctx: ctx, Root: root, DB: db, Content: db.Content(), Images: db.Images(), Leases: db.Leases()}
	u := unpack.New(cfg.Unpack, unpack.Stores{
		Content: r.Content, Leases: r.Leases, Layers: db.Layers, Snapshots: db.Snapshotter,
		Applier: &diff.Walking{Store: r.Content, Config: diff.Config{MaxLayerBytes: cfg.Unpack.MaxLayerBytes}}, Default: func(context.Context) string { return "overlayfs" },
	})
	r.Service = transfer.New(transfer.Config{}, transfer.Parts{
		Content: r.Content, Images: r.Images, Leases: r.Leases, Unpack: u,
		Puller:  pull.New(cfg.Pull, pull.Stores{Content: r.Content, Leases: r.Leases, Unpack: u}),
		Pusher:  push.New(cfg.Push, push.Stores{Content: r.Content, Images: r.Images, Leases: r.Leases}),
		Archive: archive.New(cfg.Archive, r.Content),
	})
	return r
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Pull pulls from a registry under the same name, for linux/amd64.
func (r *Rig) Pull(ref string, unpacks ...unpack.Target) error {
	return r.Transfer(r.Ctx, transfer.Registry{Reference: ref},
		transfer.Store{Name: ref, Platforms: []ocispec.Platform{Linux("amd64")}, Unpacks: unpacks}, nil)
}

// Store puts an image into the store under a name.
func (r *Rig) Store(name string, img Image) {
	r.t.Helper()
	put := func(d ocispec.Descriptor, body []byte, labels map[string]string) {
		fatal(r.t, content.WriteBlob(r.Ctx, r.Content, "store-"+d.Digest.String(), bytes.NewReader(body), d, labels))
	}
	for d, body := range img.Blobs {
		put(ocispec.Descriptor{Digest: d, Size: int64(len(body))}, body, nil)
	}
	for _, m := range img.Manifests {
		put(m.Desc, m.Body, nil)
	}
	_, err := r.Images.Create(r.Ctx, image.Image{Name: name, Target: img.Target})
	fatal(r.t, err)
}

// Has reports whether the store has a blob.
func (r *Rig) Has(d digest.Digest) bool {
	_, err := r.Content.Info(r.Ctx, d)
	return err == nil
}

// Chains are the snapshots of a snapshotter.
func (r *Rig) Chains(snapshotter string) []string {
	r.t.Helper()
	s, err := r.DB.Snapshotter(snapshotter)
	fatal(r.t, err)
	var out []string
	fatal(r.t, s.Walk(r.Ctx, func(_ context.Context, i snapshotters.Info) error {
		out = append(out, i.Name)
		return nil
	}))
	return out
}
