package protobuf

import (
	"github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/image"
)

// ToDescriptor writes a descriptor.
func ToDescriptor(d ocispec.Descriptor) *types.Descriptor {
	return &types.Descriptor{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Annotations: d.Annotations}
}

// FromDescriptor reads a descriptor; its digest is not checked yet.
func FromDescriptor(d *types.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: d.GetMediaType(), Digest: digest.Digest(d.GetDigest()), Size: d.GetSize(), Annotations: d.GetAnnotations(),
	}
}

// ToImage writes an image.
func ToImage(i image.Image) *images.Image {
	return &images.Image{
		Name: i.Name, Labels: i.Labels, Target: ToDescriptor(i.Target), CreatedAt: ToTime(i.Created), UpdatedAt: ToTime(i.Updated),
	}
}

// FromImage reads an image.
func FromImage(i *images.Image) image.Image {
	return image.Image{
		Name: i.GetName(), Labels: i.GetLabels(), Target: FromDescriptor(i.GetTarget()),
		Created: FromTime(i.GetCreatedAt()), Updated: FromTime(i.GetUpdatedAt()),
	}
}

// ToPlatform writes a platform.
func ToPlatform(p ocispec.Platform) *types.Platform {
	return &types.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

// FromPlatform reads a platform.
func FromPlatform(p *types.Platform) ocispec.Platform {
	return ocispec.Platform{
		OS: p.GetOS(), Architecture: p.GetArchitecture(), Variant: p.GetVariant(), OSVersion: p.GetOsVersion(), OSFeatures: p.GetOsFeatures(),
	}
}
