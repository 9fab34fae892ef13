package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/orlop/orlop/core/image"
)

// keepNamed remembers what a name points at. If it points elsewhere when the result is
// called and no other name points there, that image stays without a name, as in
// Docker: who replaces an image by a newer one may want the old one back.
func (e *Engine) keepNamed(ctx context.Context, name string) (keep func() error) {
	old, err := e.Parts.Images.Get(ctx, name)
	if err != nil {
		return func() error { return nil }
	}
	return func() error { return e.keepUnnamed(ctx, []image.Image{old}) }
}

// keepAll is [Engine.keepNamed] for every name.
func (e *Engine) keepAll(ctx context.Context) (keep func() error, err error) {
	all, err := e.Parts.Images.List(ctx)
	return func() error { return e.keepUnnamed(ctx, all) }, err
}

// keepUnnamed gives images that have lost their last name one that isn't shown.
func (e *Engine) keepUnnamed(ctx context.Context, before []image.Image) error {
	now, err := e.Parts.Images.List(ctx)
	if err != nil {
		return err
	}
	named, there := map[digest.Digest]bool{}, map[string]bool{}
	for _, i := range now {
		named[i.Target.Digest], there[i.Name] = true, true
	}
	for _, old := range before {
		if named[old.Target.Digest] || !there[old.Name] {
			continue // the second: it was removed, which is something else
		}
		kept := image.Image{Name: dangling + "@" + old.Target.Digest.String(), Target: old.Target}
		if _, err := e.Parts.Images.Create(ctx, kept); err != nil && !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
	return nil
}
