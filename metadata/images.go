package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/errdefs"

	"github.com/orlop/orlop/core/filter"
	"github.com/orlop/orlop/core/gc"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
)

var imageTable = table[image.Image]{name: "images", noun: "image"}

// maxImageName bounds an image's name, in bytes.
const maxImageName = 4096

type imageStore struct{ db *DB }

// Images returns the store of images.
func (db *DB) Images() image.Store { return imageStore{db} }

func (s imageStore) Get(ctx context.Context, name string) (img image.Image, err error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return img, err
	}
	err = s.db.view(func(t *tx) error {
		img, err = imageTable.get(t, ns, name)
		return err
	})
	return img, err
}

func (s imageStore) List(ctx context.Context, filters ...string) ([]image.Image, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return nil, err
	}
	return imageTable.list(s.db, ns, filters, imageField)
}

func imageField(img image.Image) filter.Adaptor {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "name":
			return img.Name, true
		case "target":
			return targetField(img, path[1:])
		case "labels":
			return filter.Labels(img.Labels, path[1:])
		case "annotations":
			return filter.Labels(img.Target.Annotations, path[1:])
		}
		return "", false
	}
}

func targetField(img image.Image, path []string) (string, bool) {
	if len(path) != 1 {
		return "", false
	}
	switch path[0] {
	case "digest":
		return img.Target.Digest.String(), true
	case "mediatype":
		return img.Target.MediaType, true
	}
	return "", false
}

func validateImage(img image.Image) error {
	if img.Name == "" || len(img.Name) > maxImageName {
		return fmt.Errorf("image name must have 1 to %d bytes, has %d: %w", maxImageName, len(img.Name), errdefs.ErrInvalidArgument)
	}
	if err := img.Target.Digest.Validate(); err != nil {
		return fmt.Errorf("image %q: target digest %q: %w: %w", img.Name, img.Target.Digest, err, errdefs.ErrInvalidArgument)
	}
	if img.Target.MediaType == "" || img.Target.Size < 0 {
		return fmt.Errorf("image %q: target needs a media type and a size: %w", img.Name, errdefs.ErrInvalidArgument)
	}
	return label.Validate(img.Labels)
}

func (s imageStore) Create(ctx context.Context, img image.Image) (image.Image, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return img, err
	}
	if err := validateImage(img); err != nil {
		return img, err
	}
	img.Created = time.Now().UTC()
	img.Updated = img.Created
	err = s.db.update(func(t *tx) error {
		t.touch(gc.Node{Type: gc.Image, Namespace: ns, Key: img.Name})
		if err := imageTable.create(t, ns, img.Name, img); err != nil {
			return err
		}
		return t.hold(ctx, ns, "images", img.Name)
	})
	if err != nil {
		return image.Image{}, err
	}
	return img, s.db.publish(ctx, "/images/create", &events.ImageCreate{Name: img.Name, Labels: img.Labels})
}

func (s imageStore) Update(ctx context.Context, img image.Image, fieldpaths ...string) (image.Image, error) {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return img, err
	}
	var out image.Image
	err = s.db.update(func(t *tx) error {
		old, err := imageTable.get(t, ns, img.Name)
		if err != nil {
			return err
		}
		if out, err = mergeImage(old, img, fieldpaths); err != nil {
			return err
		}
		if err := validateImage(out); err != nil {
			return err
		}
		t.touch(gc.Node{Type: gc.Image, Namespace: ns, Key: img.Name})
		t.deletion = old.Target.Digest != out.Target.Digest
		return imageTable.put(t, ns, img.Name, out)
	})
	if err != nil {
		return image.Image{}, err
	}
	return out, s.db.publish(ctx, "/images/update", &events.ImageUpdate{Name: out.Name, Labels: out.Labels})
}

func mergeImage(old, update image.Image, fieldpaths []string) (image.Image, error) {
	out := old
	labels, other := label.Merge(old.Labels, update.Labels, fieldpaths)
	out.Labels, out.Updated = labels, time.Now().UTC()
	if len(fieldpaths) == 0 {
		out.Target = update.Target
	}
	for _, path := range other {
		key, annotation := strings.CutPrefix(path, "annotations.")
		switch {
		case path == "target":
			out.Target = update.Target
		case path == "annotations":
			out.Target.Annotations = update.Target.Annotations
		case annotation:
			merged, _ := label.Merge(out.Target.Annotations, update.Target.Annotations, []string{"labels." + key})
			out.Target.Annotations = merged
		default:
			return out, fmt.Errorf("image %q has no field %q to update: %w", old.Name, path, errdefs.ErrInvalidArgument)
		}
	}
	return out, nil
}

func (s imageStore) Delete(ctx context.Context, name string, opts image.DeleteOptions) error {
	ns, err := namespaces.Required(ctx)
	if err != nil {
		return err
	}
	err = s.db.update(func(t *tx) error {
		if opts.Target != nil {
			img, err := imageTable.get(t, ns, name)
			if err != nil {
				return err
			}
			if img.Target.Digest != opts.Target.Digest {
				return fmt.Errorf("image %q is %s by now, not %s: %w", name, img.Target.Digest, opts.Target.Digest, errdefs.ErrNotFound)
			}
		}
		return imageTable.remove(t, ns, name)
	})
	if err != nil {
		return err
	}
	if err := s.db.publish(ctx, "/images/delete", &events.ImageDelete{Name: name}); err != nil {
		return err
	}
	if opts.Sync {
		_, err = s.db.Collect(ctx)
	}
	return err
}
