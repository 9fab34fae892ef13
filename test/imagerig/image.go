package imagerig

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a made image: one manifest, or an index of some.
type Image struct {
	Target    ocispec.Descriptor
	Manifests []Manifest // children before parents
	Blobs     map[digest.Digest][]byte
	Layers    []ocispec.Descriptor
	Config    ocispec.Descriptor
}

// Manifest is a manifest's or an index's bytes.
type Manifest struct {
	Desc ocispec.Descriptor
	Body []byte
}

// File is a file of a layer.
type File struct {
	Name string
	Data []byte
}

// Tar makes a layer's uncompressed tar.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.Name, Mode: 0o644, Size: int64(len(f.Data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Gzip compresses.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// New makes an image of gzip layers of the given uncompressed tars for a
// platform.
func NewImage(t testing.TB, platform ocispec.Platform, tars ...[]byte) Image {
	t.Helper()
	img := Image{Blobs: map[digest.Digest][]byte{}}
	cfg := ocispec.Image{Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, plain := range tars {
		img.Layers = append(img.Layers, img.add(ocispec.MediaTypeImageLayerGzip, Gzip(t, plain)))
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(plain))
	}
	img.Config = img.add(ocispec.MediaTypeImageConfig, JSON(t, cfg))
	body := JSON(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: img.Config, Layers: img.Layers,
	})
	img.Target = Descriptor(ocispec.MediaTypeImageManifest, body)
	img.Manifests = []Manifest{{img.Target, body}}
	return img
}

func (img *Image) add(mediaType string, body []byte) ocispec.Descriptor {
	d := Descriptor(mediaType, body)
	img.Blobs[d.Digest] = body
	return d
}

// NewIndex makes an image for several platforms of images for one each.
func NewIndex(t testing.TB, platforms []ocispec.Platform, images ...Image) Image {
	t.Helper()
	out := Image{Blobs: map[digest.Digest][]byte{}}
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for i, img := range images {
		d := img.Target
		d.Platform = &platforms[i]
		idx.Manifests = append(idx.Manifests, d)
		out.Manifests = append(out.Manifests, img.Manifests...)
		for k, v := range img.Blobs {
			out.Blobs[k] = v
		}
	}
	body := JSON(t, idx)
	out.Target = Descriptor(ocispec.MediaTypeImageIndex, body)
	out.Manifests = append(out.Manifests, Manifest{out.Target, body})
	return out
}

// JSON encodes.
func JSON(t testing.TB, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Linux is a platform.
func Linux(arch string) ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: arch} }
