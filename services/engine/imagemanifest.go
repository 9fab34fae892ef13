package engine

import (
	"context"
	"encoding/json"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/unpack"
)

// predicate is the annotation of a statement's layer that says of what type it is.
const predicate = "in-toto.io/predicate-type"

// PartManifest is one manifest of an image that may have several.
type PartManifest struct {
	Desc     ocispec.Descriptor
	Platform ocispec.Platform
	// Available tells that all its blobs are there.
	Available bool
	// Content and Unpacked are the bytes of its blobs and of its layers' trees.
	Content, Unpacked int64
	// For is the manifest that an attestation is of; else "".
	For digest.Digest
	// Image tells that it has a file system.
	Image bool
	// Users are the IDs of the containers that were made of it.
	Users []string
}

// Manifests lists an image's manifests, those of which parts are missing among them.
func (e *Engine) Manifests(ctx context.Context, img Image) ([]PartManifest, error) {
	ctx = e.in(ctx)
	top, _, err := manifest.Load(ctx, e.Content, img.Target)
	if err != nil {
		return nil, err
	}
	children := top.Manifests
	if !manifest.IsIndex(img.Target.MediaType) {
		children = []ocispec.Descriptor{img.Target}
	}
	var out []PartManifest
	for _, desc := range children {
		p, err := e.part(ctx, desc)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	for _, c := range e.all() {
		for i := range out {
			if c.Manifest != nil && c.Manifest.Digest == out[i].Desc.Digest {
				out[i].Users = append(out[i].Users, c.ID)
			}
		}
	}
	return out, nil
}

// part looks one manifest up.
func (e *Engine) part(ctx context.Context, desc ocispec.Descriptor) (PartManifest, error) {
	p := PartManifest{Desc: desc, For: manifest.Attests(desc)}
	if desc.Platform != nil {
		p.Platform = *desc.Platform
	}
	p.Image = p.For == "" && p.Platform.OS != ""
	if manifest.IsIndex(desc.MediaType) {
		return p, nil
	}
	m, _, err := manifest.Load(ctx, e.Content, desc)
	if errdefs.IsNotFound(err) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.Available = true
	for _, blob := range append(m.All(), desc) {
		switch info, err := e.Content.Info(ctx, blob.Digest); {
		case errdefs.IsNotFound(err):
			p.Available = false
		case err != nil:
			return p, err
		default:
			p.Content += info.Size
		}
	}
	if p.For == "" && manifest.IsImageConfig(m.Config.MediaType) {
		p.Image = true
		return p, e.partTree(ctx, &p, m)
	}
	return p, nil
}

// partTree tells for which platform a manifest is, and what its tree takes.
func (e *Engine) partTree(ctx context.Context, p *PartManifest, m manifest.Manifest) error {
	body, err := content.ReadBlob(ctx, e.Content, m.Config, manifest.MaxSize)
	if errdefs.IsNotFound(err) {
		return nil
	}
	var config ocispec.Image
	if err == nil {
		err = json.Unmarshal(body, &config)
	}
	if err != nil {
		return err
	}
	if p.Platform.OS == "" {
		p.Platform = config.Platform
	}
	s, err := e.Snapshots(e.Snapshotter(ctx))
	if err != nil {
		return err
	}
	for _, chain := range unpack.ChainIDs(config.RootFS.DiffIDs) {
		u, err := s.Usage(ctx, chain)
		if err != nil {
			break // it isn't unpacked
		}
		p.Unpacked += u.Size
	}
	return nil
}

// Attestation is one statement about an image, in in-toto's form.
type Attestation struct {
	Desc ocispec.Descriptor
	// Predicate is the type of what it says, a URI.
	Predicate string
	// Body is the statement, if it was asked for.
	Body json.RawMessage
}

// Attestations are the statements about an image for a platform; the zero value is the
// host's.
func (e *Engine) Attestations(ctx context.Context, img Image, want ocispec.Platform, bodies bool) ([]Attestation, error) {
	d, err := e.Details(ctx, img, want)
	if err != nil {
		return nil, err
	}
	ctx = e.in(ctx)
	all, err := e.Manifests(ctx, img)
	if err != nil {
		return nil, err
	}
	out := []Attestation{}
	for _, p := range all {
		if p.For != d.Manifest.Desc.Digest || !p.Available {
			continue
		}
		m, _, err := manifest.Load(ctx, e.Content, p.Desc)
		if err != nil {
			return nil, err
		}
		for _, l := range m.Layers {
			a := Attestation{Desc: l, Predicate: l.Annotations[predicate]}
			if a.Predicate == "" {
				continue
			}
			if bodies {
				if a.Body, err = content.ReadBlob(ctx, e.Content, l, maxStatement); err != nil {
					return nil, err
				}
				if !json.Valid(a.Body) {
					return nil, invalid("statement %s is no JSON", l.Digest)
				}
			}
			out = append(out, a)
		}
	}
	return out, nil
}

// maxStatement bounds a statement, in bytes: lists of what is in an image are long.
const maxStatement = 64 << 20
