package archive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/services/manifest"
)

// maxImages bounds the images of a docker archive, and maxTags the names of one.
const (
	maxImages = 1000
	maxTags   = 1000
)

// index makes an archive's index: the layout's own, or one of what manifest.json
// lists.
func (in *importer) index() (ocispec.Descriptor, ocispec.Index, error) {
	var idx ocispec.Index
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}
	body := in.ociBody
	switch {
	case in.ociBody != nil && in.layout:
	case in.docker != nil:
		list, err := in.dockerImages()
		if err != nil {
			return desc, idx, err
		}
		idx = ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: desc.MediaType, Manifests: list}
		if body, err = json.Marshal(idx); err != nil {
			return desc, idx, err
		}
	default:
		return desc, idx, invalid("it has neither %s and %s nor %s", layoutFile, indexFile, dockerFile)
	}
	desc.Digest, desc.Size = digest.FromBytes(body), int64(len(body))
	if _, err := manifest.Parse(desc, body); err != nil {
		return desc, idx, fmt.Errorf("archive: %s: %w", indexFile, err)
	}
	if err := json.Unmarshal(body, &idx); err != nil {
		return desc, idx, invalid("%s: %v", indexFile, err)
	}
	return desc, idx, storeBytes(in.ctx, in.store, desc, body)
}

// dockerImage is an item of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerImages makes a manifest of each item, a descriptor for each name.
func (in *importer) dockerImages() ([]ocispec.Descriptor, error) {
	var items []dockerImage
	if err := json.Unmarshal(in.docker, &items); err != nil {
		return nil, invalid("%s: %v", dockerFile, err)
	}
	if len(items) == 0 || len(items) > maxImages {
		return nil, invalid("%s lists %d images, 1 to %d are read", dockerFile, len(items), maxImages)
	}
	var out []ocispec.Descriptor
	for _, item := range items {
		desc, err := in.dockerManifest(item)
		if err != nil {
			return nil, err
		}
		if len(item.RepoTags) > maxTags {
			return nil, invalid("%s gives an image %d names, at most %d are read", dockerFile, len(item.RepoTags), maxTags)
		}
		if len(item.RepoTags) == 0 {
			out = append(out, desc)
		}
		for _, tag := range item.RepoTags {
			named, err := reference.ParseDockerRef(tag)
			if err != nil {
				return nil, invalid("name %.200q: %v", tag, err)
			}
			one := desc
			one.Annotations = map[string]string{NameAnnotation: named.String()}
			if t, ok := named.(reference.Tagged); ok {
				one.Annotations[ocispec.AnnotationRefName] = t.Tag()
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func (in *importer) dockerManifest(item dockerImage) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	config, err := in.find(item.Config)
	if err != nil {
		return none, err
	}
	config.MediaType = ocispec.MediaTypeImageConfig
	body, err := content.ReadBlob(in.ctx, in.store, config, manifest.MaxSize)
	if err != nil {
		return none, err
	}
	var img ocispec.Image
	if err := json.Unmarshal(body, &img); err != nil {
		return none, invalid("config %.200q: %v", item.Config, err)
	}
	if len(img.RootFS.DiffIDs) != len(item.Layers) || len(item.Layers) > manifest.MaxLayers {
		return none, invalid("an image has %d layers and %d diff IDs, at most %d are read", len(item.Layers), len(img.RootFS.DiffIDs), manifest.MaxLayers)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}}
	for i, name := range item.Layers {
		desc, err := in.find(name)
		if err == nil && in.options.Compress && desc.MediaType == ocispec.MediaTypeImageLayer {
			desc, err = in.compress(desc, img.RootFS.DiffIDs[i])
		}
		if err != nil {
			return none, err
		}
		m.Layers = append(m.Layers, desc)
	}
	if body, err = json.Marshal(m); err != nil {
		return none, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body)), Platform: platformOf(img)}
	return desc, storeBytes(in.ctx, in.store, desc, body)
}

func platformOf(img ocispec.Image) *ocispec.Platform {
	if img.OS == "" || img.Architecture == "" {
		return nil
	}
	p := img.Platform
	return &p
}

// compress makes a gzip blob of a layer.
func (in *importer) compress(desc ocispec.Descriptor, diffID digest.Digest) (ocispec.Descriptor, error) {
	ra, err := in.store.ReaderAt(in.ctx, desc)
	if err != nil {
		return desc, err
	}
	defer ra.Close()
	w, err := in.store.Writer(in.ctx, content.WriterOptions{Ref: "compress-" + rand.Text()})
	if err != nil {
		return desc, err
	}
	defer w.Close()
	z := gzip.NewWriter(w)
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, &contextReader{in.ctx, io.NewSectionReader(ra, 0, ra.Size())}, in.buf); err != nil {
		return desc, err
	}
	if err := z.Close(); err != nil {
		return desc, err
	}
	st, err := w.Status()
	if err != nil {
		return desc, err
	}
	out := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: w.Digest(), Size: st.Offset}
	err = w.Commit(in.ctx, out.Size, out.Digest, map[string]string{label.Uncompressed: diffID.String()})
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return out, err
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
