package engine

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RemovePlatforms removes what is here of an image for some of its platforms, with what is
// said about that; its names stay, and the rest. A platform that isn't here is an error, as
// is one whose manifest is of another image, too. Force removes what stopped containers use.
// Nothing is removed if any of them can't be. An image that has no more than one manifest,
// without an index, goes as a whole.
func (e *Engine) RemovePlatforms(ctx context.Context, ref string, list []ocispec.Platform, force bool) ([]RemovedImage, error) {
	ctx = e.in(ctx)
	img, err := e.FindImage(ctx, ref)
	if err != nil {
		return nil, err
	}
	parts, err := e.Manifests(ctx, img)
	if err != nil {
		return nil, err
	}
	var gone []PartManifest
	for _, p := range list {
		part, err := e.removable(img, parts, p, force)
		if err != nil {
			return nil, err
		}
		if part.Desc.Digest == img.Target.Digest {
			return e.RemoveImage(ctx, ref, force)
		}
		gone = append(gone, part)
	}
	if err := e.ownManifests(ctx, img, gone); err != nil {
		return nil, err
	}
	return e.dropManifests(ctx, parts, gone)
}

// removable finds the manifest for a platform that nothing needs.
func (e *Engine) removable(img Image, parts []PartManifest, want ocispec.Platform, force bool) (PartManifest, error) {
	match := platforms.OnlyStrict(want)
	i := slices.IndexFunc(parts, func(p PartManifest) bool { return p.Image && p.Content > 0 && match.Match(p.Platform) })
	if i < 0 {
		return PartManifest{}, notFound("image %s is not here for platform %s", short(img.ID.Encoded()), platforms.FormatAll(want))
	}
	for _, id := range parts[i].Users {
		c, err := e.lookup(id)
		if err != nil {
			continue // gone since
		}
		how := "must force"
		if s := c.state(); s.Running || s.Restarting {
			how = "cannot be forced"
		} else if force {
			continue
		}
		return PartManifest{}, conflict("conflict: unable to delete %s for platform %s (%s) - container %s is using it", short(img.ID.Encoded()), platforms.FormatAll(want), how, short(id))
	}
	return parts[i], nil
}

// ownManifests makes sure that no other image has them.
func (e *Engine) ownManifests(ctx context.Context, img Image, gone []PartManifest) error {
	images, err := e.Images(ctx)
	if err != nil {
		return err
	}
	for _, other := range images {
		if other.ID == img.ID {
			continue
		}
		parts, err := e.Manifests(ctx, other)
		if errdefs.IsNotFound(err) {
			continue // it isn't whole
		}
		if err != nil {
			return err
		}
		for _, p := range parts {
			if slices.ContainsFunc(gone, func(g PartManifest) bool { return g.Desc.Digest == p.Desc.Digest }) {
				return conflict("conflict: unable to delete manifest %s - it is also of image %s", p.Desc.Digest, short(other.ID.Encoded()))
			}
		}
	}
	return nil
}

// dropManifests removes manifests and attestations of them. What they alone refer to goes
// with the collection that follows a deletion.
func (e *Engine) dropManifests(ctx context.Context, parts, gone []PartManifest) ([]RemovedImage, error) {
	var out []RemovedImage
	for _, p := range parts {
		if !slices.ContainsFunc(gone, func(g PartManifest) bool { return g.Desc.Digest == p.Desc.Digest || g.Desc.Digest == p.For }) {
			continue
		}
		switch err := e.Content.Delete(ctx, p.Desc.Digest); {
		case err == nil:
			out = append(out, RemovedImage{Deleted: p.Desc.Digest.String()})
		case !errdefs.IsNotFound(err):
			return out, err
		}
	}
	return out, nil
}
