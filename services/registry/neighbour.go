package registry

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/image"
	"github.com/orlop/orlop/core/label"
	"github.com/orlop/orlop/core/namespaces"
	"github.com/orlop/orlop/services/manifest"
	"github.com/orlop/orlop/services/remote"
)

// Neighbour lets others use this host as a mirror of what its image store has from other
// registries, as clients ask mirrors: with the registry's name in ns.
type Neighbour struct {
	Images image.Store
	// Namespaces are those whose images are served; none is nothing.
	Namespaces []string
}

// neighbour serves a manifest or a blob that was pulled from the registry and repository
// that the request names, which its labels tell. It returns false for anything else.
func (r *Registry) neighbour(q *request, kind string) (bool, error) {
	host := q.args.Get("ns")
	if host == "" || r.cfg.Neighbour.Images == nil {
		return false, nil
	}
	for _, ns := range r.cfg.Neighbour.Namespaces {
		ctx := namespaces.With(q.Context(), ns)
		desc, err := r.wanted(ctx, q, host)
		if err == nil && kind == "manifests" && desc.MediaType == "" {
			desc.MediaType, err = r.typeOf(ctx, desc)
		}
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return false, err
		}
		return true, r.give(ctx, q, desc)
	}
	return false, nil
}

// wanted finds what a request asks for in the namespace of ctx.
func (r *Registry) wanted(ctx context.Context, q *request, host string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{}
	if strings.Contains(q.ref, ":") {
		dgst, err := readDigest(q.ref)
		if err != nil {
			return desc, err
		}
		desc.Digest = dgst
	} else {
		ref, err := remote.ParseReference(host + "/" + q.repo + ":" + q.ref)
		if err != nil {
			return desc, errdefs.ErrNotFound
		}
		img, err := r.cfg.Neighbour.Images.Get(ctx, ref.Name)
		if err != nil {
			return desc, err
		}
		desc = img.Target
	}
	return desc, r.from(ctx, desc.Digest, host, q.repo)
}

// from is NotFound unless the bytes came from a repository of a registry: what somebody
// built or imported here is nobody else's business.
func (r *Registry) from(ctx context.Context, dgst digest.Digest, host, repo string) error {
	info, err := r.Blobs.Info(ctx, dgst)
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Split(info.Labels[label.DistributionFrom+host], ","), repo) {
		return errdefs.ErrNotFound
	}
	return nil
}

// typeOf reads what a manifest says it is.
func (r *Registry) typeOf(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	b, err := r.Blobs.ReaderAt(ctx, desc)
	if err != nil {
		return "", err
	}
	defer b.Close()
	if b.Size() > manifest.MaxSize {
		return "", errdefs.ErrNotFound
	}
	body, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return "", err
	}
	kind, err := manifest.TypeOf(body, "")
	if err != nil || !manifest.IsIndex(kind) && !manifest.IsManifest(kind) {
		return "", errdefs.ErrNotFound // a blob that is no manifest
	}
	return kind, nil
}

// give sends it.
func (r *Registry) give(ctx context.Context, q *request, desc ocispec.Descriptor) error {
	var b content.ReaderAt
	b, err := r.Blobs.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer b.Close()
	h := q.w.Header()
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	h.Set("Content-Type", "application/octet-stream")
	if desc.MediaType != "" {
		h.Set("Content-Type", desc.MediaType)
	}
	if q.Method == http.MethodGet && desc.MediaType != "" {
		r.tell(q, Event{Kind: EventPull, Digest: desc.Digest, MediaType: desc.MediaType, Size: b.Size()})
	}
	return send(q, b)
}
