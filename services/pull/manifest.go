package pull

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/services/remote"
)

// maxLayers bounds a manifest; overlayfs takes 500.
const maxLayers = 500

// manifest is an image manifest or an index; which one decides its media type.
type manifest struct {
	MediaType string               `json:"mediaType"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	index     bool
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == remote.DockerManifestList
}

func isManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == remote.DockerManifest
}

// manifestType decides what a resolved body is. The body's own word counts; a
// registry that says otherwise is refused, because the same bytes read as two
// different things would be two different images (CVE-2021-41190).
func manifestType(body []byte, claimed string) (string, error) {
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return "", fmt.Errorf("manifest is not JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch {
	case m.MediaType != "" && claimed != "" && isIndex(m.MediaType) != isIndex(claimed):
		return "", fmt.Errorf("manifest says it is %q, the registry says %q: %w", m.MediaType, claimed, errdefs.ErrInvalidArgument)
	case m.MediaType != "":
		claimed = m.MediaType
	}
	if !isIndex(claimed) && !isManifest(claimed) {
		return "", fmt.Errorf("media type %q is not an image: %w", claimed, errdefs.ErrNotImplemented)
	}
	return claimed, nil
}

func parse(desc ocispec.Descriptor, body []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("manifest %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	m.index = isIndex(desc.MediaType)
	switch {
	case len(m.Manifests) > 0 && (len(m.Layers) > 0 || m.Config.Digest != ""):
		return m, fmt.Errorf("manifest %s is an index and an image at once: %w", desc.Digest, errdefs.ErrInvalidArgument)
	case m.index != (m.Config.Digest == ""):
		return m, fmt.Errorf("manifest %s is not what its media type %q says: %w", desc.Digest, desc.MediaType, errdefs.ErrInvalidArgument)
	case len(m.Layers) > maxLayers:
		return m, fmt.Errorf("manifest %s has %d layers, at most %d are taken: %w", desc.Digest, len(m.Layers), maxLayers, errdefs.ErrInvalidArgument)
	}
	for _, d := range m.all() {
		if err := d.Digest.Validate(); err != nil {
			return m, fmt.Errorf("manifest %s refers to digest %q: %w: %w", desc.Digest, d.Digest, err, errdefs.ErrInvalidArgument)
		}
		if d.Size < 0 {
			return m, fmt.Errorf("manifest %s gives %s the size %d: %w", desc.Digest, d.Digest, d.Size, errdefs.ErrInvalidArgument)
		}
	}
	return m, nil
}

func (m manifest) all() []ocispec.Descriptor {
	if m.index {
		return m.Manifests
	}
	return append([]ocispec.Descriptor{m.Config}, m.Layers...)
}

// labels are the collector's references from a manifest to what hangs on it.
func (m manifest) labels() map[string]string {
	out := map[string]string{}
	if m.index {
		for i, d := range m.Manifests {
			out[fmt.Sprintf("%s.m.%d", label.GCContent, i)] = d.Digest.String()
		}
		return out
	}
	out[label.GCContent+".config"] = m.Config.Digest.String()
	for i, d := range m.Layers {
		out[fmt.Sprintf("%s.l.%d", label.GCContent, i)] = d.Digest.String()
	}
	return out
}

// chainIDs names the stacks of layers (image-spec, "Layer ChainID").
func chainIDs(diffIDs []digest.Digest) []string {
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
