package manifest

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's names of what OCI calls an index and a manifest.
const (
	typeList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// IsList tells whether a media type is that of several manifests.
func IsList(mediaType string) bool {
	return mediaType == typeList || mediaType == ocispec.MediaTypeImageIndex
}

// NewEntry is an image for one platform by its manifest and config.
func NewEntry(ref string, desc ocispec.Descriptor, raw, config []byte) (Entry, error) {
	e := Entry{Ref: ref, Descriptor: desc, Raw: raw}
	switch desc.MediaType {
	case ocispec.MediaTypeImageManifest:
		e.OCIManifest = raw
	case typeManifest:
		e.SchemaV2Manifest = raw
	default:
		return e, fmt.Errorf("%s is of type %q, which is none for a list", ref, desc.MediaType)
	}
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		return e, fmt.Errorf("config of %s: %w", ref, err)
	}
	e.Descriptor.Platform = &image.Platform
	return e, nil
}

// Blobs are what the manifest refers to.
func (e *Entry) Blobs() ([]ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(e.Raw, &m); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", e.Ref, err)
	}
	return append([]ocispec.Descriptor{m.Config}, m.Layers...), nil
}

// Index is the list of images as registries take it: OCI's if all of them are, else
// Docker's.
func Index(all []Entry) (mediaType string, body []byte, err error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, e := range all {
		p := e.Descriptor.Platform
		if p == nil || p.OS == "" || p.Architecture == "" {
			return "", nil, fmt.Errorf("manifest %s must have an OS and Architecture to be pushed to a registry", e.Ref)
		}
		if e.Descriptor.MediaType != ocispec.MediaTypeImageManifest {
			index.MediaType = typeList
		}
		d := e.Descriptor
		d.Annotations, d.URLs = nil, nil
		index.Manifests = append(index.Manifests, d)
	}
	body, err = json.MarshalIndent(index, "", "   ")
	return index.MediaType, body, err
}
