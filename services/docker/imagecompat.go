package docker

import (
	"github.com/moby/moby/api/types/image"
)

// legacySummary is an image in lists as clients before [noVirtualSize] expect it.
type legacySummary struct {
	image.Summary
	VirtualSize int64
}

// summariesFor is a list of images in the form of the client's version.
func summariesFor(all []image.Summary, v version) any {
	if v >= noVirtualSize {
		return all
	}
	out := make([]legacySummary, len(all))
	for i, s := range all {
		out[i] = legacySummary{s, s.Size}
	}
	return out
}

// legacyImage is an image's description as clients before [noContainerConfig] expect
// it.
type legacyImage struct {
	image.InspectResponse
	// VirtualSize is there before [noVirtualSize].
	VirtualSize *int64 `json:",omitempty"`
	// Container made the image, and ContainerConfig is how it was configured.
	// docker-compose 1 looks up the image's volumes there.
	Container       string
	ContainerConfig any
}

// imageFor is an image's description in the form of the client's version.
func imageFor(r image.InspectResponse, v version) any {
	if v >= noContainerConfig {
		return r
	}
	out := legacyImage{InspectResponse: r, ContainerConfig: r.Config}
	if r.Config == nil {
		out.ContainerConfig = struct{}{}
	}
	if v < noVirtualSize {
		out.VirtualSize = &r.Size
	}
	return out
}
