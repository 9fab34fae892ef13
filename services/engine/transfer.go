package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/lease"
	"github.com/orlop/orlop/core/progress"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/remote"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
)

// Credentials log in to a registry; the zero value is anonymous.
type Credentials struct {
	Username, Password string
	// IdentityToken stands instead of the two; RegistryToken is a bearer token.
	IdentityToken, RegistryToken string
}

// find makes the function that the transfer asks.
func (c Credentials) find(context.Context, remote.Login) (remote.Credentials, error) {
	switch {
	case c.RegistryToken != "":
		return remote.Credentials{Header: "Bearer " + c.RegistryToken}, nil
	case c.IdentityToken != "":
		return remote.Credentials{Username: "<token>", Password: c.IdentityToken}, nil
	}
	return remote.Credentials{Username: c.Username, Password: c.Password}, nil
}

// source makes the registry's side of a transfer. Without credentials from the client, the
// daemon's own config decides.
func (c Credentials) source(name string) transfer.Registry {
	r := transfer.Registry{Reference: name}
	if c != (Credentials{}) {
		r.Credentials = c.find
	}
	return r
}

// Pulled is what a pull has brought.
type Pulled struct {
	// Name is the whole name, Familiar what people write.
	Name, Familiar string
	ID             digest.Digest
	// New tells that the name points at something else than before.
	New bool
}

// Pull brings an image from a registry and unpacks it. Tag may be a digest.
func (e *Engine) Pull(ctx context.Context, repo, tag string, platform *ocispec.Platform, auth Credentials, report progress.Func) (Pulled, error) {
	ctx = e.in(ctx)
	named, err := parseName(joinTag(repo, tag))
	if err != nil {
		return Pulled{}, err
	}
	out := Pulled{Name: named.String(), Familiar: reference.FamiliarString(named)}
	var before digest.Digest
	if img, err := e.Parts.Images.Get(ctx, out.Name); err == nil {
		before = img.Target.Digest
	}
	want := platforms.DefaultSpec()
	if platform != nil {
		want = *platform
	}
	to := transfer.Store{Name: out.Name, Platforms: []ocispec.Platform{want}, Unpacks: []unpack.Target{{Platform: want, Snapshotter: e.Snapshotter(ctx)}}}
	keep := e.keepNamed(ctx, out.Name)
	if err := e.Transfer.Transfer(ctx, auth.source(out.Name), to, report); err != nil {
		return out, err
	}
	if err := keep(); err != nil {
		return out, err
	}
	img, err := e.Parts.Images.Get(ctx, out.Name)
	if err != nil {
		return out, err
	}
	out.ID, out.New = img.Target.Digest, img.Target.Digest != before
	e.tellImage("pull", out.Familiar, reference.FamiliarName(named))
	return out, nil
}

func joinTag(repo, tag string) string {
	switch {
	case tag == "":
		return repo
	case strings.Contains(tag, ":"):
		return repo + "@" + tag
	}
	return repo + ":" + tag
}

// Push sends an image to the registry that its name says. It returns what the
// registry's name points at then.
func (e *Engine) Push(ctx context.Context, repo, tag string, platform *ocispec.Platform, auth Credentials, report progress.Func) (ocispec.Descriptor, error) {
	ctx = e.in(ctx)
	named, err := parseName(joinTag(repo, tag))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	img, err := e.Parts.Images.Get(ctx, named.String())
	if err != nil {
		return ocispec.Descriptor{}, notFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	sent := img.Target
	from := transfer.Store{Name: img.Name}
	if platform != nil {
		from.Platforms = []ocispec.Platform{*platform}
	}
	err = e.Transfer.Transfer(ctx, from, auth.source(img.Name), func(s progress.Step) {
		if s.Event == "pushed" && s.Desc != nil {
			sent = *s.Desc
		}
		report.Report(s)
	})
	if err != nil {
		return sent, err
	}
	e.tellImage("push", reference.FamiliarString(named), reference.FamiliarName(named))
	return sent, nil
}

// Load reads an archive of images and returns their names, or the ID of one that has
// none. Of images for several platforms only those of the list are kept; none is all.
func (e *Engine) Load(ctx context.Context, r io.Reader, list []ocispec.Platform, report progress.Func) ([]string, error) {
	ctx = e.in(ctx)
	var out []string
	var tagged []image.Image // named by a tag alone, which says nothing
	to := transfer.Store{
		Extra:     []transfer.Reference{{Name: dangling, Prefix: true, Overwrite: true, AddDigest: true, SkipNamedDigest: true}},
		Unpacks:   []unpack.Target{{Snapshotter: e.Snapshotter(ctx)}},
		Platforms: list,
	}
	var kept error
	keep, err := e.keepAll(ctx)
	if err != nil {
		return nil, err
	}
	err = e.Transfer.Transfer(ctx, transfer.Import{From: r}, to, func(s progress.Step) {
		if s.Event != "saved" {
			report.Report(s)
			return
		}
		if err := keep(); err != nil { // at once: the collector is about
			kept = errors.Join(kept, err)
		}
		name, id := familiar(s.Name), s.Desc.Digest.String()
		if strings.HasPrefix(s.Name, dangling+":") {
			tagged, name = append(tagged, image.Image{Name: s.Name, Target: *s.Desc}), ""
		}
		if name == "" {
			name = id
		}
		out = append(out, name)
		e.tellImage("load", id, name)
	})
	for _, img := range tagged {
		if err := e.untitle(ctx, img); err != nil {
			return out, err
		}
	}
	return out, errors.Join(err, kept)
}

// untitle makes an image dangling.
func (e *Engine) untitle(ctx context.Context, img image.Image) error {
	if err := e.name(ctx, dangling+"@"+img.Target.Digest.String(), img.Target); err != nil {
		return err
	}
	return e.Parts.Images.Delete(ctx, img.Name, image.DeleteOptions{})
}

// Save writes images as an archive.
func (e *Engine) Save(ctx context.Context, w io.Writer, refs []string, list []ocispec.Platform) error {
	ctx, end, err := lease.Hold(e.in(ctx), e.Leases, "save", makingLife)
	if err != nil {
		return err
	}
	defer end(false)
	images, err := e.saved(ctx, refs)
	if err != nil {
		return err
	}
	return e.Archive.Export(ctx, w, images, archive.ExportOptions{AllPlatforms: len(list) == 0, Platforms: list})
}

// CheckSave finds what Save would write, so that what is missing is told before the
// archive begins.
func (e *Engine) CheckSave(ctx context.Context, refs []string, list []ocispec.Platform) error {
	if len(refs) == 0 {
		return invalid("no image is named")
	}
	ctx = e.in(ctx)
	images, err := e.saved(ctx, refs)
	if err != nil {
		return err
	}
	for _, img := range images {
		for _, p := range list {
			_, err := manifest.Select(ctx, e.Content, img.Target, platforms.OnlyStrict(p))
			if err != nil {
				return fmt.Errorf("platform %s: %w", platforms.FormatAll(p), err)
			}
		}
	}
	return nil
}

// saved finds images, each name by itself; an ID has no name.
func (e *Engine) saved(ctx context.Context, refs []string) ([]image.Image, error) {
	var out []image.Image
	for _, ref := range refs {
		if all, err := e.repositoryImages(ctx, ref); err != nil || len(all) > 0 {
			if err != nil {
				return nil, err
			}
			out = append(out, all...)
			continue
		}
		img, err := e.FindImage(ctx, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, image.Image{Name: img.namedBy(ref), Target: img.Target})
		e.tellImage("save", img.ID.String(), ref)
	}
	return out, nil
}
