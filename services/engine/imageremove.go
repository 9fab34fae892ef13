package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/image"
)

// RemovedImage is one thing that happened when images were removed: a name was taken
// away, or an image went.
type RemovedImage struct{ Untagged, Deleted string }

// RemoveImage takes a name away, or, given an ID, all of them. The last one takes
// the image with it. Force removes an image that stopped containers use, or that
// has several names.
func (e *Engine) RemoveImage(ctx context.Context, ref string, force bool) ([]RemovedImage, error) {
	ctx = e.in(ctx)
	img, err := e.FindImage(ctx, ref)
	if err != nil {
		return nil, err
	}
	names := img.stored
	if named := img.namedBy(ref); named != "" {
		names = []string{named}
	} else if len(img.Names) > 1 && !force {
		return nil, conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(img.ID.Encoded()))
	}
	last := len(names) == len(img.stored)
	if last {
		if err := e.unused(img, ref, force); err != nil {
			return nil, err
		}
	}
	return e.untag(ctx, img, names, last)
}

// namedBy is the stored name that ref means, "" if it is an ID.
func (i *Image) namedBy(ref string) string {
	named, err := parseName(ref)
	if err != nil || !slices.Contains(i.stored, named.String()) {
		return ""
	}
	return named.String()
}

func (e *Engine) untag(ctx context.Context, img Image, names []string, last bool) ([]RemovedImage, error) {
	var out []RemovedImage
	for i, name := range names {
		opts := image.DeleteOptions{Target: &img.Target, Sync: last && i == len(names)-1}
		if err := e.Parts.Images.Delete(ctx, name, opts); err != nil && !errdefs.IsNotFound(err) {
			return out, err
		}
		if f := familiar(name); f != "" {
			out = append(out, RemovedImage{Untagged: f})
			e.tellImage("untag", img.ID.String(), f)
		}
	}
	if last {
		out = append(out, RemovedImage{Deleted: img.ID.String()})
		e.tellImage("delete", img.ID.String(), img.ID.String())
	}
	return out, nil
}

// unused refuses to remove what containers need.
func (e *Engine) unused(img Image, ref string, force bool) error {
	for _, c := range e.all() {
		if c.ImageID != img.ID.String() {
			continue
		}
		what := "unable to delete " + short(img.ID.Encoded())
		if !shortID.MatchString(ref) {
			what = `unable to remove repository reference "` + ref + `"`
		}
		if c.State.Running || c.State.Restarting {
			return conflict("conflict: %s (cannot be forced) - container %s is using its referenced image %s", what, short(c.ID), short(img.ID.Encoded()))
		}
		if !force {
			return conflict("conflict: %s (must force) - container %s is using its referenced image %s", what, short(c.ID), short(img.ID.Encoded()))
		}
	}
	return nil
}

// PruneImages removes images that no container uses: those without a name, or
// with all also the others. It returns the bytes of their blobs and layers.
func (e *Engine) PruneImages(ctx context.Context, all bool, f Filters) ([]RemovedImage, int64, error) {
	ctx = e.in(ctx)
	images, err := e.Images(ctx)
	if err != nil {
		return nil, 0, err
	}
	used := map[string]bool{}
	for _, c := range e.all() {
		used[c.ImageID] = true
	}
	var out []RemovedImage
	var freed int64
	for _, img := range images {
		if used[img.ID.String()] || !all && len(img.Names) > 0 {
			continue
		}
		d, err := e.Details(ctx, img, anyPlatform)
		if err == nil && !f.labels(d.Config.Config.Labels) || err != nil && f.has("label") {
			continue
		}
		gone, err := e.untag(ctx, img, img.stored, true)
		out = append(out, gone...)
		if err != nil {
			return out, freed, err
		}
		if d != nil {
			freed += d.Size
		}
	}
	return out, freed, nil
}

// ImageUsers counts the containers of each image.
func (e *Engine) ImageUsers() map[digest.Digest]int64 {
	out := map[digest.Digest]int64{}
	for _, c := range e.all() {
		out[digest.Digest(c.ImageID)]++
	}
	return out
}

// short is an ID as people see it.
func short(id string) string { return id[:min(len(id), 12)] }

// matchesReference tells whether one of the image's names fits a pattern.
func (i *Image) matchesReference(patterns []string) bool {
	for _, name := range i.Names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		for _, p := range patterns {
			if ok, err := reference.FamiliarMatch(p, named); err == nil && ok {
				return true
			}
			if !strings.ContainsAny(p, "*?[:@") && reference.FamiliarName(named) == p {
				return true
			}
		}
	}
	return false
}
