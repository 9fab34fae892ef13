package manifest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
)

// Image is an image manifest of a selection.
type Image struct {
	Desc ocispec.Descriptor
	Manifest
}

// Index is an index of a selection. Body is what the store has, or an index made
// here of the manifests that were selected.
type Index struct {
	Desc ocispec.Descriptor
	Body []byte
}

// Selection is the part of an image that a transfer takes.
type Selection struct {
	// Root is the image's target, or what stands for it when only a part of it
	// was selected: the one manifest, or an index of those that were.
	Root   ocispec.Descriptor
	Images []Image
	// Indexes are children before parents.
	Indexes []Index
	// Left are manifests whose platform was wanted, but which aren't in the
	// store whole, with the first blob that is missing.
	Left []Left
}

// Left is a manifest that could not be taken.
type Left struct {
	Desc    ocispec.Descriptor
	Missing digest.Digest
}

// Load reads a manifest from a store.
func Load(ctx context.Context, p content.Provider, desc ocispec.Descriptor) (Manifest, []byte, error) {
	body, err := content.ReadBlob(ctx, p, desc, MaxSize)
	if err != nil {
		return Manifest{}, nil, err
	}
	m, err := Parse(desc, body)
	return m, body, err
}

// Platform returns for which platform a manifest is: its descriptor says, or its
// config, or nobody (the zero value), which is so for artifacts.
func Platform(ctx context.Context, p content.Provider, desc ocispec.Descriptor, m Manifest) (ocispec.Platform, error) {
	if desc.Platform != nil {
		return platforms.Normalize(*desc.Platform), nil
	}
	var img ocispec.Image
	if !IsImageConfig(m.Config.MediaType) {
		return img.Platform, nil
	}
	body, err := content.ReadBlob(ctx, p, m.Config, MaxSize)
	if err != nil {
		return img.Platform, err
	}
	if err := json.Unmarshal(body, &img); err != nil {
		return img.Platform, fmt.Errorf("config %s: %w: %w", m.Config.Digest, err, errdefs.ErrInvalidArgument)
	}
	return platforms.Normalize(img.Platform), nil
}

// Select chooses the manifests of an image that match and that the store has
// whole; nil matches all. It fails with NotFound if there are none.
func Select(ctx context.Context, store content.Store, target ocispec.Descriptor, match platforms.Matcher) (Selection, error) {
	s := &selector{ctx: ctx, store: store, match: match}
	root, err := s.visit(target, 0)
	if err != nil {
		return Selection{}, err
	}
	if root == nil {
		return Selection{}, s.nothing(target)
	}
	s.out.Root = *root
	return s.out, nil
}

type selector struct {
	ctx   context.Context
	store content.Store
	match platforms.Matcher
	out   Selection
}

func (s *selector) nothing(target ocispec.Descriptor) error {
	if len(s.out.Left) > 0 {
		l := s.out.Left[0]
		return fmt.Errorf("manifest %s is not complete: blob %s is not in the store: %w", l.Desc.Digest, l.Missing, errdefs.ErrNotFound)
	}
	return fmt.Errorf("image %s has no manifest for the wanted platforms: %w", target.Digest, errdefs.ErrNotFound)
}

// visit selects below desc and returns what stands for it, nil for nothing.
func (s *selector) visit(desc ocispec.Descriptor, depth int) (*ocispec.Descriptor, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("index %s: more than %d indexes in each other: %w", desc.Digest, MaxDepth, errdefs.ErrInvalidArgument)
	}
	if desc.Platform != nil && s.match != nil && !s.match.Match(*desc.Platform) {
		return nil, nil
	}
	m, body, err := Load(s.ctx, s.store, desc)
	if errdefs.IsNotFound(err) {
		s.out.Left = append(s.out.Left, Left{desc, desc.Digest})
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m.Index {
		return s.index(desc, m, body, depth)
	}
	return s.image(desc, m)
}

func (s *selector) image(desc ocispec.Descriptor, m Manifest) (*ocispec.Descriptor, error) {
	for _, d := range m.All() {
		_, err := s.store.Info(s.ctx, d.Digest)
		if errdefs.IsNotFound(err) && IsForeign(d.MediaType) {
			continue
		}
		if errdefs.IsNotFound(err) {
			s.out.Left = append(s.out.Left, Left{desc, d.Digest})
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if s.match != nil {
		p, err := Platform(s.ctx, s.store, desc, m)
		if err != nil || p.OS != "" && !s.match.Match(p) {
			return nil, err
		}
	}
	s.out.Images = append(s.out.Images, Image{desc, m})
	return &desc, nil
}

func (s *selector) index(desc ocispec.Descriptor, m Manifest, body []byte, depth int) (*ocispec.Descriptor, error) {
	var kept []ocispec.Descriptor
	whole := true
	for _, child := range m.Manifests {
		got, err := s.visit(child, depth+1)
		if err != nil {
			return nil, err
		}
		whole = whole && got != nil && got.Digest == child.Digest
		if got != nil {
			kept = append(kept, *got)
		}
	}
	switch {
	case whole && (len(kept) > 0 || len(m.Manifests) == 0):
	case len(kept) == 0:
		return nil, nil
	case len(kept) == 1:
		return &kept[0], nil
	default:
		var err error
		if desc, body, err = reduce(desc, body, kept); err != nil {
			return nil, err
		}
	}
	s.out.Indexes = append(s.out.Indexes, Index{desc, body})
	return &desc, nil
}

// reduce makes an index of some of an index's manifests.
func reduce(desc ocispec.Descriptor, body []byte, kept []ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	var old ocispec.Index
	if err := json.Unmarshal(body, &old); err != nil {
		return desc, nil, fmt.Errorf("index %s: %w: %w", desc.Digest, err, errdefs.ErrInvalidArgument)
	}
	made, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: desc.MediaType, Manifests: kept, Annotations: old.Annotations,
	})
	if err != nil {
		return desc, nil, err
	}
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: digest.FromBytes(made), Size: int64(len(made)), Annotations: desc.Annotations}, made, nil
}

// Describe names a manifest for people: by its platform where it has one.
func (l Left) Describe() string {
	if l.Desc.Platform != nil {
		return strings.TrimSuffix(platforms.FormatAll(*l.Desc.Platform), "/")
	}
	return l.Desc.Digest.String()
}
