package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/unpack"
)

// dangling is the repository of images that have no name, as the Engine of Docker
// keeps them in containerd's store.
const dangling = "moby-dangling"

// Image is an image with all its names.
type Image struct {
	// ID is the digest of its manifest or index.
	ID digest.Digest
	// Names are whole references, sorted; none of a dangling image.
	Names []string
	// Target is what the names point at.
	Target ocispec.Descriptor
	// Labels are those of the name in the store.
	Created time.Time
	stored  []string // all names in the store
}

// Details are what only the image's blobs tell.
type Details struct {
	Image
	Manifest manifest.Image
	Config   ImageConfig
	// Size of its blobs and its unpacked layers, in bytes.
	Size int64
	// Blobs is the size of the blobs alone.
	Blobs int64
	// LayerSizes are those of the unpacked layers, where they are known.
	LayerSizes []int64
	Chains     []string
}

// ImageConfig is an image's config with Docker's additions.
type ImageConfig struct {
	ocispec.Image
	// Docker is the part "config", undecoded: it has fields that the image-spec
	// doesn't know.
	Docker json.RawMessage `json:"-"`
	// Comment is Docker's.
	Comment string `json:"comment,omitempty"`
}

// parseName makes a whole reference of what people write.
func parseName(name string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return named, nil
}

// familiar is a stored name as people write it, "" for one that is no name.
func familiar(stored string) string {
	named, err := reference.ParseNormalizedNamed(stored)
	if err != nil || strings.HasPrefix(stored, dangling+"@") {
		return ""
	}
	return reference.FamiliarString(named)
}

// Images returns all images, each once, the newest first.
func (e *Engine) Images(ctx context.Context) ([]Image, error) {
	all, err := e.Parts.Images.List(e.in(ctx))
	if err != nil {
		return nil, err
	}
	byID := map[digest.Digest]*Image{}
	for _, img := range all {
		i := byID[img.Target.Digest]
		if i == nil {
			i = &Image{ID: img.Target.Digest, Target: img.Target, Created: img.Created}
			byID[img.Target.Digest] = i
		}
		i.add(img)
	}
	out := make([]Image, 0, len(byID))
	for _, i := range byID {
		slices.Sort(i.Names)
		out = append(out, *i)
	}
	slices.SortFunc(out, func(a, b Image) int {
		if d := b.Created.Compare(a.Created); d != 0 {
			return d
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return out, nil
}

func (i *Image) add(img image.Image) {
	i.stored = append(i.stored, img.Name)
	if familiar(img.Name) != "" {
		i.Names = append(i.Names, img.Name)
	}
}

// shortID is what may be the beginning of an image's ID.
var shortID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{4,64}$`)

// FindImage resolves a name, an ID or the beginning of one.
func (e *Engine) FindImage(ctx context.Context, ref string) (Image, error) {
	all, err := e.Images(ctx)
	if err != nil {
		return Image{}, err
	}
	missing := notFound("No such image: %s", withTag(ref))
	if named, err := parseName(ref); err == nil && !strings.HasPrefix(ref, "sha256:") {
		for _, i := range all {
			if slices.Contains(i.stored, named.String()) || i.hasDigest(named) {
				return i, nil
			}
		}
	}
	if !shortID.MatchString(ref) {
		if _, err := parseName(ref); err != nil {
			return Image{}, err
		}
		return Image{}, missing
	}
	var found *Image
	for i := range all {
		if !strings.HasPrefix(all[i].ID.Encoded(), strings.TrimPrefix(ref, "sha256:")) {
			continue
		}
		if found != nil {
			return Image{}, invalid("ambiguous reference: %s", ref)
		}
		found = &all[i]
	}
	if found == nil {
		return Image{}, missing
	}
	return *found, nil
}

// hasDigest reports whether named is repository@digest of one of the image's
// repositories.
func (i *Image) hasDigest(named reference.Named) bool {
	d, ok := named.(reference.Digested)
	if !ok || d.Digest() != i.ID {
		return false
	}
	return slices.ContainsFunc(i.Names, func(name string) bool {
		have, err := reference.ParseNormalizedNamed(name)
		return err == nil && have.Name() == named.Name()
	})
}

// withTag is a reference as errors name it.
func withTag(ref string) string {
	named, err := reference.ParseDockerRef(ref)
	if err != nil || shortID.MatchString(ref) {
		return ref
	}
	return reference.FamiliarString(named)
}

// RepoTags are an image's names with a tag, as people write them.
func (i *Image) RepoTags() []string {
	out := []string{}
	for _, name := range i.Names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			if tagged, ok := named.(reference.Tagged); ok {
				out = append(out, reference.FamiliarName(named)+":"+tagged.Tag())
			}
		}
	}
	return out
}

// RepoDigests are repository@digest for each of its repositories.
func (i *Image) RepoDigests() []string {
	out := []string{}
	for _, name := range i.Names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			out = append(out, reference.FamiliarName(named)+"@"+i.ID.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Details reads an image's manifest and config for a platform; the zero value
// means the host's, and failing that whatever is there.
func (e *Engine) Details(ctx context.Context, img Image, want ocispec.Platform) (*Details, error) {
	ctx = e.in(ctx)
	match := platforms.Only(platforms.DefaultSpec())
	if want.OS != "" {
		match = platforms.OnlyStrict(want)
	}
	chosen, err := manifest.Select(ctx, e.Content, img.Target, match)
	if errdefs.IsNotFound(err) && want.OS == "" {
		chosen, err = manifest.Select(ctx, e.Content, img.Target, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", img.ID, err)
	}
	if len(chosen.Images) == 0 {
		return nil, notFound("image %s has no manifest for the wanted platform", img.ID)
	}
	d := &Details{Image: img, Manifest: chosen.Images[0]}
	if err := e.readConfig(ctx, d); err != nil {
		return nil, err
	}
	d.Chains = unpack.ChainIDs(d.Config.RootFS.DiffIDs)
	e.measure(ctx, d)
	return d, nil
}

func (e *Engine) readConfig(ctx context.Context, d *Details) error {
	body, err := content.ReadBlob(ctx, e.Content, d.Manifest.Config, manifest.MaxSize)
	if err != nil {
		return err
	}
	if !manifest.IsImageConfig(d.Manifest.Config.MediaType) {
		return nil // an artifact
	}
	part := struct {
		Config json.RawMessage `json:"config"`
	}{}
	if err := json.Unmarshal(body, &part); err != nil {
		return invalid("config %s: %v", d.Manifest.Config.Digest, err)
	}
	if err := json.Unmarshal(body, &d.Config); err != nil {
		return invalid("config %s: %v", d.Manifest.Config.Digest, err)
	}
	d.Config.Docker = part.Config
	if n := len(d.Config.History); n > 0 && d.Config.Comment == "" {
		d.Config.Comment = d.Config.History[n-1].Comment
	}
	return nil
}

// measure sums up blobs and layers. What is not unpacked counts nothing.
func (e *Engine) measure(ctx context.Context, d *Details) {
	for _, b := range append(d.Manifest.All(), d.Manifest.Desc) {
		d.Blobs += b.Size
	}
	d.Size = d.Blobs
	s, err := e.Snapshots(e.Snapshotter(ctx))
	if err != nil {
		return
	}
	for _, chain := range d.Chains {
		u, err := s.Usage(ctx, chain)
		if err != nil {
			return
		}
		d.Size += u.Size
		d.LayerSizes = append(d.LayerSizes, u.Size)
	}
}

// Describe describes the manifest of the platform that was chosen.
func (d *Details) Describe() *ocispec.Descriptor {
	desc := d.Manifest.Desc
	desc.Platform = &ocispec.Platform{Architecture: d.Config.Architecture, OS: d.Config.OS, OSVersion: d.Config.OSVersion, OSFeatures: d.Config.OSFeatures, Variant: d.Config.Variant}
	return &desc
}

// Tag gives an image another name.
func (e *Engine) Tag(ctx context.Context, ref, repo, tag string) error {
	img, err := e.FindImage(ctx, ref)
	if err != nil {
		return err
	}
	if tag != "" {
		repo += ":" + tag
	}
	named, err := parseName(repo)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return invalid("refusing to create a tag with a digest reference")
	}
	if reference.FamiliarName(named) == string(digest.Canonical) {
		return invalid("refusing to create an ambiguous tag using digest algorithm as name")
	}
	if err := e.name(e.in(ctx), named.String(), img.Target); err != nil {
		return err
	}
	e.tellImage("tag", img.ID.String(), reference.FamiliarString(named))
	return nil
}

func (e *Engine) name(ctx context.Context, name string, target ocispec.Descriptor) error {
	img := image.Image{Name: name, Target: target}
	for {
		_, err := e.Parts.Images.Create(ctx, img)
		if !errdefs.IsAlreadyExists(err) {
			return err
		}
		keep := e.keepNamed(ctx, name)
		if _, err = e.Parts.Images.Update(ctx, img, "target"); err == nil {
			return keep()
		}
		if !errdefs.IsNotFound(err) {
			return err // else it was removed meanwhile
		}
	}
}
