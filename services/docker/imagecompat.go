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

type legacyImage struct {
	image.InspectResponse
	VirtualSize int64
}

// imageFor is an image's description in the form of the client's version.
func imageFor(r image.InspectResponse, v version) any {
	if v >= noVirtualSize {
		return r
	}
	return legacyImage{r, r.Size}
}
