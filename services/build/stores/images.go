package stores

import (
	"context"

	ctd "github.com/containerd/containerd/v2/core/images"

	"github.com/orlop/orlop/core/image"
)

// Images shows a store of images.
type Images struct{ Store image.Store }

var _ ctd.Store = Images{}

func toImage(i image.Image) ctd.Image {
	return ctd.Image{Name: i.Name, Labels: i.Labels, Target: i.Target, CreatedAt: i.Created, UpdatedAt: i.Updated}
}

func fromImage(i ctd.Image) image.Image {
	return image.Image{Name: i.Name, Labels: i.Labels, Target: i.Target, Created: i.CreatedAt, Updated: i.UpdatedAt}
}

// Get implements the store.
func (s Images) Get(ctx context.Context, name string) (ctd.Image, error) {
	i, err := s.Store.Get(in(ctx), name)
	return toImage(i), err
}

// List implements the store.
func (s Images) List(ctx context.Context, filters ...string) ([]ctd.Image, error) {
	list, err := s.Store.List(in(ctx), filters...)
	out := make([]ctd.Image, len(list))
	for i, img := range list {
		out[i] = toImage(img)
	}
	return out, err
}

// Create implements the store.
func (s Images) Create(ctx context.Context, img ctd.Image) (ctd.Image, error) {
	i, err := s.Store.Create(in(ctx), fromImage(img))
	return toImage(i), err
}

// Update implements the store.
func (s Images) Update(ctx context.Context, img ctd.Image, fieldpaths ...string) (ctd.Image, error) {
	i, err := s.Store.Update(in(ctx), fromImage(img), fieldpaths...)
	return toImage(i), err
}

// Delete implements the store.
func (s Images) Delete(ctx context.Context, name string, opts ...ctd.DeleteOpt) error {
	var o ctd.DeleteOptions
	for _, opt := range opts {
		if err := opt(ctx, &o); err != nil {
			return err
		}
	}
	return s.Store.Delete(in(ctx), name, image.DeleteOptions{Sync: o.Synchronous, Target: o.Target})
}
