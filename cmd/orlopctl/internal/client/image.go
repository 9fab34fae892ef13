package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxManifest bounds what is read of an image's index, manifest or config.
const maxManifest = 8 << 20

// snapshotLabel is the prefix of the label by which a config names the snapshot
// that its layers were unpacked to.
const snapshotLabel = "containerd.io/gc.ref.snapshot."

// Image is an image with what is needed to run it.
type Image struct {
	// Name and Target are the record's.
	Name   string
	Target *types.Descriptor
	// Manifest and Config are those of this machine's platform.
	Manifest       imagespec.Manifest
	ManifestDigest string
	Config         imagespec.Image
	// Unpacked holds the chain ID by the snapshotters it is unpacked in.
	Unpacked map[string]string
}

// Reference completes an image's name as people write it: registry, library
// and tag.
func Reference(name string) string {
	if strings.Contains(name, "@") || name == "" {
		return withHost(name)
	}
	name = withHost(name)
	if !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		name += ":latest"
	}
	return name
}

func withHost(name string) string {
	first, _, ok := strings.Cut(name, "/")
	switch {
	case name == "":
		return ""
	case !ok:
		return "docker.io/library/" + name
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		return "docker.io/" + name
	}
	return name
}

// Find returns the record of an image by the name as given, or completed.
func (c *Client) Find(ctx context.Context, name string) (*images.Image, error) {
	api := images.NewImagesClient(c.conn)
	r, err := api.Get(ctx, &images.GetImageRequest{Name: Reference(name)})
	if status.Code(err) == codes.NotFound && Reference(name) != name {
		r, err = api.Get(ctx, &images.GetImageRequest{Name: name})
	}
	if err != nil {
		return nil, err
	}
	return r.Image, nil
}

// Image reads an image's manifest and config for a platform, "" being this
// machine's.
func (c *Client) Image(ctx context.Context, name, platform string) (*Image, error) {
	record, err := c.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.details(ctx, record, platform)
}

// details reads the manifest and config of an image.
func (c *Client) details(ctx context.Context, record *images.Image, platform string) (*Image, error) {
	img := &Image{Name: record.Name, Target: record.Target}
	if err := c.manifest(ctx, img, platform); err != nil {
		return nil, fmt.Errorf("image %s: %w", record.Name, err)
	}
	config := img.Manifest.Config.Digest.String()
	err := both(func() error {
		data, err := c.ReadBlob(ctx, config)
		if err != nil {
			return err
		}
		return json.Unmarshal(data, &img.Config)
	}, func() error {
		info, err := content.NewContentClient(c.conn).Info(ctx, &content.InfoRequest{Digest: config})
		if err != nil {
			return err
		}
		img.Unpacked = map[string]string{}
		for key, chain := range info.Info.Labels {
			if ss, ok := strings.CutPrefix(key, snapshotLabel); ok {
				img.Unpacked[ss] = chain
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("image %s: config: %w", record.Name, err)
	}
	return img, nil
}

// manifest follows an index to the platform's manifest.
func (c *Client) manifest(ctx context.Context, img *Image, platform string) error {
	digest := img.Target.Digest
	for range 4 { // an index may name another one
		data, err := c.ReadBlob(ctx, digest)
		if err != nil {
			return err
		}
		var doc struct {
			imagespec.Manifest
			Manifests []imagespec.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			return fmt.Errorf("manifest %s: %w", digest, err)
		}
		if len(doc.Manifests) == 0 {
			if doc.Manifest.Config.Digest == "" {
				return fmt.Errorf("%s is no image manifest", digest)
			}
			img.Manifest, img.ManifestDigest = doc.Manifest, digest
			return nil
		}
		next, err := choose(doc.Manifests, platform)
		if err != nil {
			return err
		}
		digest = next.Digest.String()
	}
	return errors.New("indexes are nested too deeply")
}

// choose takes the manifest for a platform out of an index.
func choose(list []imagespec.Descriptor, platform string) (imagespec.Descriptor, error) {
	want := platform
	if want == "" {
		want = runtime.GOOS + "/" + runtime.GOARCH
	}
	var have []string
	for _, d := range list {
		if d.Platform == nil {
			continue
		}
		name := d.Platform.OS + "/" + d.Platform.Architecture
		full := strings.TrimSuffix(name+"/"+d.Platform.Variant, "/")
		if want == name || want == full {
			return d, nil
		}
		if d.Platform.OS != "unknown" && !slices.Contains(have, full) {
			have = append(have, full)
		}
	}
	if len(list) == 1 && list[0].Platform == nil {
		return list[0], nil
	}
	return imagespec.Descriptor{}, fmt.Errorf("there is no manifest for %s, only for %s", want, strings.Join(have, ", "))
}

// ReadBlob reads a small blob whole.
func (c *Client) ReadBlob(ctx context.Context, digest string) ([]byte, error) {
	var b bytes.Buffer
	err := c.CopyBlob(ctx, digest, &limitedWriter{w: &b, left: maxManifest})
	return b.Bytes(), err
}

// CopyBlob copies a blob to w.
func (c *Client) CopyBlob(ctx context.Context, digest string, w io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := content.NewContentClient(c.conn).Read(ctx, &content.ReadContentRequest{Digest: digest})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
	}
}

// limitedWriter refuses what goes beyond its bound.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("larger than %d bytes", maxManifest)
	}
	return l.w.Write(p)
}

// ChainID names the snapshot of a config's layers (OCI image-spec, "Layer
// ChainID").
func (i *Image) ChainID() string { return i.chain(len(i.Config.RootFS.DiffIDs)) }

// chain is the chain ID of the first n layers.
func (i *Image) chain(n int) string {
	id := ""
	for _, diff := range i.Config.RootFS.DiffIDs[:n] {
		if id == "" {
			id = diff.String()
			continue
		}
		sum := sha256.Sum256([]byte(id + " " + diff.String()))
		id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return id
}

// preferred are snapshotters from the best to the least, for images that are
// unpacked in several.
var preferred = []string{"erofs", "overlayfs", "btrfs", "native"}

// Snapshotter is the one to run the image with: the best it is unpacked in, ""
// if it is unpacked in none.
func (i *Image) Snapshotter() string {
	for _, name := range preferred {
		if i.Unpacked[name] != "" {
			return name
		}
	}
	for name := range i.Unpacked {
		return name
	}
	return ""
}

// Unpack unpacks the image's layers with a snapshotter, as far as that is not
// done yet, and returns the chain ID.
func (c *Client) Unpack(ctx context.Context, img *Image, snapshotter string) (string, error) {
	n := len(img.Config.RootFS.DiffIDs)
	if n != len(img.Manifest.Layers) {
		return "", fmt.Errorf("image %s: %d layers, but %d diff IDs", img.Name, len(img.Manifest.Layers), n)
	}
	api := snapshots.NewSnapshotsClient(c.conn)
	for i := range n {
		chain := img.chain(i + 1)
		_, err := api.Stat(ctx, &snapshots.StatSnapshotRequest{Snapshotter: snapshotter, Key: chain})
		if err == nil {
			continue
		}
		if status.Code(err) != codes.NotFound {
			return "", err
		}
		if err := c.unpackLayer(ctx, img, i, snapshotter); err != nil {
			return "", fmt.Errorf("layer %s: %w", img.Manifest.Layers[i].Digest, err)
		}
	}
	return img.ChainID(), c.labelUnpacked(ctx, img, snapshotter)
}

func (c *Client) unpackLayer(ctx context.Context, img *Image, i int, snapshotter string) error {
	api := snapshots.NewSnapshotsClient(c.conn)
	key := "unpack-" + randomID() + " " + img.chain(i+1)
	mounts, err := api.Prepare(ctx, &snapshots.PrepareSnapshotRequest{Snapshotter: snapshotter, Key: key, Parent: img.chain(i)})
	if err != nil {
		return err
	}
	abort := func(err error) error {
		ctx, cancel := detached(ctx)
		defer cancel()
		api.Remove(ctx, &snapshots.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key})
		return err
	}
	layer := img.Manifest.Layers[i]
	applied, err := c.apply(ctx, layer, mounts.Mounts)
	if err != nil {
		return abort(err)
	}
	if want := img.Config.RootFS.DiffIDs[i].String(); applied != want {
		return abort(fmt.Errorf("unpacked to %s, the config says %s", applied, want))
	}
	_, err = api.Commit(ctx, &snapshots.CommitSnapshotRequest{Snapshotter: snapshotter, Name: img.chain(i + 1), Key: key})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return abort(err)
	}
	return nil
}
