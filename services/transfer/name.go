package transfer

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/services/archive"
)

// Reference is a further name of an image, or a rule for names; the meaning is
// that of containerd's message.
type Reference struct {
	Name string
	// Prefix makes Name what a tag or digest is added to, or what a name in an
	// archive must begin with.
	Prefix bool
	// Overwrite takes whole names of an archive that don't begin so.
	Overwrite bool
	// AddDigest makes a name of the prefix and the digest, where there is no
	// other, and, without SkipNamedDigest, beside one.
	AddDigest, SkipNamedDigest bool
}

// name points names at targets and returns the images.
func (s *Service) name(ctx context.Context, images []image.Image) ([]image.Image, error) {
	var out []image.Image
	for _, img := range images {
		saved, err := s.nameOne(ctx, img)
		if err != nil {
			return out, fmt.Errorf("image %q: %w", img.Name, err)
		}
		out = append(out, saved)
	}
	return out, nil
}

func (s *Service) nameOne(ctx context.Context, img image.Image) (image.Image, error) {
	for {
		out, err := s.Images.Create(ctx, img)
		if !errdefs.IsAlreadyExists(err) {
			return out, err
		}
		out, err = s.Images.Update(ctx, img, "target", "labels")
		if !errdefs.IsNotFound(err) { // else it was removed meanwhile
			return out, err
		}
	}
}

// lookup finds the images that a store's names mean, and holds them.
func (s *Service) lookup(ctx context.Context, from Store) ([]image.Image, error) {
	var names []string
	if from.Name != "" {
		names = append(names, from.Name)
	}
	for _, ref := range from.Extra {
		if ref.Prefix {
			return nil, fmt.Errorf("image %q: names by prefix aren't looked up: %w", ref.Name, errdefs.ErrNotImplemented)
		}
		names = append(names, ref.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no image is named: %w", errdefs.ErrInvalidArgument)
	}
	var out []image.Image
	id, held := lease.From(ctx)
	for _, name := range names {
		img, err := s.Images.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if held {
			if err := s.Leases.AddResource(ctx, id, lease.Resource{ID: img.Target.Digest.String(), Type: "content"}); err != nil {
				return nil, err
			}
		}
		out = append(out, img)
	}
	return out, nil
}

// images are the names of a target that was pulled, or of an archive's index.
func (t Store) images(target ocispec.Descriptor) []image.Image {
	var out []image.Image
	target.Annotations, target.Platform = nil, nil
	if t.Name != "" {
		out = append(out, image.Image{Name: t.Name, Labels: t.Labels, Target: target})
	}
	for _, ref := range t.Extra {
		name := ref.Name
		switch {
		case ref.AddDigest:
			name += "@" + target.Digest.String()
		case ref.Prefix:
			continue
		}
		out = append(out, image.Image{Name: name, Labels: t.extraLabels(), Target: target})
	}
	return out
}

// extraLabels let further names live and go with the main one.
func (t Store) extraLabels() map[string]string {
	if t.Name == "" {
		return t.Labels
	}
	out := maps.Clone(t.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[label.GCBackImage] = t.Name
	out[label.GCExpire] = time.Now().UTC().Format(time.RFC3339)
	return out
}

// imported are the names of one image of an archive.
func (t Store) imported(desc ocispec.Descriptor) []image.Image {
	target := desc
	target.Annotations, target.Platform = nil, nil
	var out []image.Image
	add := func(name string) { out = append(out, image.Image{Name: name, Labels: t.extraLabels(), Target: target}) }
	for _, ref := range t.Extra {
		if !ref.Prefix {
			continue
		}
		name := ref.resolve(desc.Annotations)
		if name != "" {
			add(name)
		}
		if ref.AddDigest && (name == "" || !ref.SkipNamedDigest) {
			add(ref.Name + "@" + desc.Digest.String())
		}
	}
	return out
}

// resolve makes a name of what an archive says of an image, "" for none.
func (r Reference) resolve(annotations map[string]string) string {
	if whole := annotations[archive.NameAnnotation]; whole != "" {
		if r.apply(whole) != whole {
			return ""
		}
		return whole
	}
	if name := annotations[ocispec.AnnotationRefName]; name != "" {
		return r.apply(name)
	}
	return ""
}

func (r Reference) apply(name string) string {
	switch {
	case !strings.ContainsAny(name, "/:@"):
		return r.Name + ":" + name // a tag
	case r.Overwrite || name == r.Name || strings.HasPrefix(name, r.Name+":") || strings.HasPrefix(name, r.Name+"@") || strings.HasPrefix(name, r.Name+"/"):
		return name
	}
	return ""
}
