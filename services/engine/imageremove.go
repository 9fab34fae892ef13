package engine

import (
	"context"
	"path"
	"slices"

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
	} else if of := img.namesOf(ref); len(of) > 0 {
		names = of
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
		if !c.usesImage(img.ID.String()) {
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

// usesImage tells whether a container was made of an image, or mounts it.
func (v *View) usesImage(id string) bool {
	return v.ImageID == id || slices.ContainsFunc(v.Mounts, func(m MountPoint) bool { return m.Snapshot != "" && m.Name == id })
}

// usedImages are the images that containers use, each with what they call it.
func (e *Engine) usedImages() map[string][]string {
	used := map[string][]string{}
	for _, c := range e.all() {
		used[c.ImageID] = append(used[c.ImageID], c.Config.Image)
		for _, m := range c.Mounts {
			if m.Snapshot != "" {
				used[m.Name] = append(used[m.Name], m.Source)
			}
		}
	}
	return used
}

// unusedNames are the names of an image that containers use which none of them
// calls it by. One stays in any case.
func (i *Image) unusedNames(refs []string) []string {
	called := map[string]bool{}
	for _, ref := range refs {
		if name := i.namedBy(ref); name != "" {
			called[name] = true
		}
	}
	names := slices.Sorted(slices.Values(i.Names))
	if len(called) == 0 && len(names) > 0 {
		called[names[len(names)-1]] = true
	}
	return slices.DeleteFunc(names, func(n string) bool { return called[n] })
}

// PruneImages removes images that no container uses: those without a name, or
// with all also the others. It returns the bytes of their blobs and layers.
func (e *Engine) PruneImages(ctx context.Context, all bool, f Filters) ([]RemovedImage, int64, error) {
	ctx = e.in(ctx)
	images, err := e.Images(ctx)
	if err != nil {
		return nil, 0, err
	}
	used := e.usedImages()
	var out []RemovedImage
	var freed int64
	for _, img := range images {
		names, last := img.stored, true
		if refs, ok := used[img.ID.String()]; ok {
			names, last = img.unusedNames(refs), false
		}
		if len(names) == 0 || !all && len(img.Names) > 0 {
			continue
		}
		d, err := e.Details(ctx, img, anyPlatform)
		if err == nil && !f.labels(d.Config.Config.Labels) || err != nil && f.has("label") {
			continue
		}
		gone, err := e.untag(ctx, img, names, last)
		out = append(out, gone...)
		if err != nil {
			return out, freed, err
		}
		if d != nil && last {
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

// matching are the image's names that fit a pattern: as people write them, or whole.
func (i *Image) matching(patterns []string) []string {
	var out []string
	for _, name := range i.Names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(patterns, func(p string) bool { return fitsName(p, named) }) {
			out = append(out, name)
		}
	}
	return out
}

func fitsName(pattern string, named reference.Named) bool {
	if ok, err := reference.FamiliarMatch(pattern, named); err == nil && ok {
		return true
	}
	for _, text := range []string{named.String(), named.Name()} {
		if ok, err := path.Match(pattern, text); err == nil && ok {
			return true
		}
	}
	return false
}

// namesOf are the stored names of the repository that ref names with the image's
// digest.
func (i *Image) namesOf(ref string) []string {
	named, err := parseName(ref)
	if err != nil || !i.hasDigest(named) {
		return nil
	}
	var out []string
	for _, name := range i.Names {
		if have, err := reference.ParseNormalizedNamed(name); err == nil && have.Name() == named.Name() {
			out = append(out, name)
		}
	}
	return out
}
