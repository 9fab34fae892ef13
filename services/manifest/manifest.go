// Package manifest reads manifests and indexes, which are hostile input whoever
// sent them, and chooses the parts of an image that a transfer takes. Sizes,
// numbers of layers and manifests and the depth of indexes are bounded. It keeps
// nothing.
package manifest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/label"
)

const (
	// MaxSize bounds manifests, indexes and configs, in bytes. The distribution
	// spec asks registries for at least 4 MiB.
	MaxSize = 8 << 20
	// MaxLayers bounds a manifest; overlayfs takes 500.
	MaxLayers = 500
	// MaxManifests bounds an index.
	MaxManifests = 1000
	// MaxDepth bounds indexes in indexes.
	MaxDepth = 4
)

// Docker's media types.
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
)

// Manifest is an image manifest or an index; which one decides its media type.
type Manifest struct {
	MediaType string               `json:"mediaType"`
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Index     bool                 `json:"-"`
}

// IsIndex tells media types of indexes.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerManifestList
}

// IsManifest tells media types of image manifests.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == DockerManifest
}

// IsImageConfig tells media types of configs that describe a file system; other
// manifests are artifacts, which aren't unpacked.
func IsImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == DockerConfig
}

// IsForeign tells media types of layers that may not be passed on.
func IsForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// TypeOf decides what a resolved body is. The body's own word counts; a registry
// that says otherwise is refused, because the same bytes read as two different
// things would be two different images (CVE-2021-41190).
func TypeOf(body []byte, claimed string) (string, error) {
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return "", fmt.Errorf("manifest is not JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	switch {
	case m.MediaType != "" && claimed != "" && IsIndex(m.MediaType) != IsIndex(claimed):
		return "", fmt.Errorf("manifest says it is %.100q, the registry says %.100q: %w", m.MediaType, claimed, errdefs.ErrInvalidArgument)
	case m.MediaType != "":
		claimed = m.MediaType
	}
	if !IsIndex(claimed) && !IsManifest(claimed) {
		return "", fmt.Errorf("media type %.100q is not an image: %w", claimed, errdefs.ErrNotImplemented)
	}
	return claimed, nil
}

// Parse reads the manifest or index that desc describes and checks its form.
func Parse(desc ocispec.Descriptor, body []byte) (Manifest, error) {
	var m Manifest
	invalid := func(format string, args ...any) (Manifest, error) {
		return m, fmt.Errorf("manifest %s %s: %w", desc.Digest, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	if len(body) > MaxSize {
		return invalid("has %d bytes, at most %d are read", len(body), MaxSize)
	}
	if !IsIndex(desc.MediaType) && !IsManifest(desc.MediaType) {
		return m, fmt.Errorf("manifest %s: media type %.100q is not an image: %w", desc.Digest, desc.MediaType, errdefs.ErrNotImplemented)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return invalid("is no manifest: %v", err)
	}
	m.Index = IsIndex(desc.MediaType)
	switch {
	case len(m.Manifests) > 0 && (len(m.Layers) > 0 || m.Config.Digest != ""):
		return invalid("is an index and an image at once")
	case m.Index != (m.Config.Digest == ""), m.MediaType != "" && IsIndex(m.MediaType) != m.Index:
		return invalid("is not what its media type %.100q says", desc.MediaType)
	case len(m.Layers) > MaxLayers:
		return invalid("has %d layers, at most %d are taken", len(m.Layers), MaxLayers)
	case len(m.Manifests) > MaxManifests:
		return invalid("has %d manifests, at most %d are taken", len(m.Manifests), MaxManifests)
	}
	for _, d := range m.All() {
		if err := d.Digest.Validate(); err != nil {
			return invalid("refers to digest %.200q: %v", d.Digest, err)
		}
		if d.Size < 0 {
			return invalid("gives %s the size %d", d.Digest, d.Size)
		}
	}
	return m, nil
}

// All are the descriptors of what hangs directly on it.
func (m Manifest) All() []ocispec.Descriptor {
	if m.Index {
		return m.Manifests
	}
	return append([]ocispec.Descriptor{m.Config}, m.Layers...)
}

// BuildKit's annotations of manifests that say something of others
// (docs/attestations/attestation-storage.md there).
const (
	refType   = "vnd.docker.reference.type"
	refDigest = "vnd.docker.reference.digest"
	attests   = "attestation-manifest"
)

// Attests is the digest of the manifest that desc's is an attestation of, "" if it is none.
func Attests(desc ocispec.Descriptor) digest.Digest {
	if desc.Annotations[refType] != attests {
		return ""
	}
	return digest.Digest(desc.Annotations[refDigest])
}

// For are an index's manifests that match, those that don't say for which platform they
// are, and the attestations of either. A nil match is for all.
func (m Manifest) For(match platforms.Matcher) []ocispec.Descriptor {
	if match == nil {
		return m.Manifests
	}
	var out []ocispec.Descriptor
	for _, d := range m.Manifests {
		if Attests(d) == "" && (d.Platform == nil || match.Match(*d.Platform)) {
			out = append(out, d)
		}
	}
	for _, d := range m.Manifests {
		of := Attests(d)
		if of != "" && slices.ContainsFunc(out, func(o ocispec.Descriptor) bool { return o.Digest == of }) {
			out = append(out, d)
		}
	}
	return out
}

// Labels are the collector's references from a manifest to what hangs on it.
func (m Manifest) Labels() map[string]string {
	out := map[string]string{}
	if m.Index {
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

// Key names what desc describes in ingests and progress, in containerd's way, so
// that its clients show it.
func Key(desc ocispec.Descriptor) string {
	kind := "unknown"
	switch t := desc.MediaType; {
	case IsIndex(t):
		kind = "index"
	case IsManifest(t):
		kind = "manifest"
	case IsImageConfig(t):
		kind = "config"
	case strings.Contains(t, ".layer.") || strings.Contains(t, ".rootfs."):
		kind = "layer"
	}
	return kind + "-" + desc.Digest.String()
}
