package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/registry"
)

// Bounds of manifests beside their size.
const (
	maxParts     = 10_000 // descriptors
	maxMediaType = 255    // characters
)

// document is what a registry reads of a manifest or an index, of whatever type.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Blobs         []ocispec.Descriptor `json:"blobs"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// find resolves a tag or a digest.
func (r *Registry) find(q *request) (registry.Manifest, error) {
	if strings.Contains(q.ref, ":") {
		dgst, err := readDigest(q.ref)
		if err != nil {
			return registry.Manifest{}, err
		}
		return r.Catalog.Manifest(q.Context(), q.repo, dgst)
	}
	if err := registry.CheckTag(q.ref); err != nil {
		return registry.Manifest{}, fail(http.StatusNotFound, codeManifestUnknown, "%v", err)
	}
	tag, err := r.Catalog.Tag(q.Context(), q.repo, q.ref)
	if err != nil {
		return registry.Manifest{}, err
	}
	return r.Catalog.Manifest(q.Context(), q.repo, tag.Digest)
}

func (r *Registry) getManifest(q *request) error {
	if done, err := r.neighbour(q, "manifests"); done || err != nil {
		return err
	}
	if u := r.cache.upstream(q.repo); u != nil {
		if err := r.cache.manifest(q, u); err != nil {
			return explain(err, codeManifestUnknown)
		}
	}
	m, err := r.find(q)
	if err != nil {
		return explain(err, codeManifestUnknown)
	}
	blob, err := r.open(q.Context(), m.Digest)
	if err != nil {
		return explain(err, codeManifestUnknown)
	}
	defer blob.Close()
	h := q.w.Header()
	h.Set("Content-Type", m.MediaType)
	h.Set("Docker-Content-Digest", m.Digest.String())
	h.Set("Etag", `"`+m.Digest.String()+`"`)
	if q.Method == http.MethodGet {
		e := Event{Kind: EventPull, Digest: m.Digest, MediaType: m.MediaType, Size: m.Size}
		if !strings.Contains(q.ref, ":") {
			e.Tag = q.ref
		}
		r.tell(q, e)
	}
	return send(q, blob)
}

// putManifest checks a manifest, keeps its bytes, and records it, with its tag, when
// all that it refers to is there.
func (r *Registry) putManifest(q *request) error {
	body, err := io.ReadAll(io.LimitReader(q.Body, r.cfg.MaxManifest+1))
	if stalled(err) {
		return stood(int64(len(body)))
	}
	if err != nil {
		return fail(http.StatusBadRequest, codeManifestInvalid, "the body can't be read: %v", err)
	}
	if int64(len(body)) > r.cfg.MaxManifest {
		return fail(http.StatusRequestEntityTooLarge, codeSizeInvalid, "manifests of more than %d bytes are not taken here", r.cfg.MaxManifest)
	}
	dgst, tags, err := q.target(body)
	if err != nil {
		return err
	}
	m, err := describe(q.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	m.Digest, m.Size, m.Pushed = dgst, int64(len(body)), time.Now().UTC()
	if err := r.keep(q, m, body, tags); err != nil {
		return explain(err, codeManifestInvalid)
	}
	r.pushed(q, m, tags)
	h := q.w.Header()
	h.Set("Location", "/v2/"+q.repo+"/manifests/"+dgst.String())
	h.Set("Docker-Content-Digest", dgst.String())
	if m.Subject != "" {
		h.Set("OCI-Subject", m.Subject.String())
	}
	for _, tag := range tags {
		h.Add("OCI-Tag", tag)
	}
	h.Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

// pushed tells of a manifest, once for each of its tags.
func (r *Registry) pushed(q *request, m registry.Manifest, tags []string) {
	for _, tag := range append(tags, "")[:max(len(tags), 1)] {
		r.tell(q, Event{Kind: EventPush, Tag: tag, Digest: m.Digest, MediaType: m.MediaType, Size: m.Size})
	}
}

// maxTags bounds the tags that are set with one manifest.
const maxTags = 100

// target tells what the manifest is to be called: its digest, which is checked, and
// its tags.
func (q *request) target(body []byte) (digest.Digest, []string, error) {
	tags := q.args["tag"]
	if len(tags) > maxTags {
		return "", nil, fail(http.StatusBadRequest, codeTagInvalid, "%d tags at once, at most %d are taken", len(tags), maxTags)
	}
	for _, tag := range tags {
		if err := registry.CheckTag(tag); err != nil {
			return "", nil, fail(http.StatusBadRequest, codeTagInvalid, "%v", err)
		}
	}
	wanted := q.ref
	if !strings.Contains(q.ref, ":") {
		if err := registry.CheckTag(q.ref); err != nil {
			return "", nil, fail(http.StatusBadRequest, codeTagInvalid, "%v", err)
		}
		tags = append(tags, q.ref)
		if wanted = q.args.Get("digest"); wanted == "" {
			return digest.FromBytes(body), tags, nil
		}
	}
	dgst, err := readDigest(wanted)
	if err != nil {
		return "", nil, err
	}
	if got := dgst.Algorithm().FromBytes(body); got != dgst {
		return "", nil, fail(http.StatusBadRequest, codeDigestInvalid, "the manifest's digest is %s, not %s", got, dgst)
	}
	return dgst, tags, nil
}

// describe reads a manifest. Its own word about its type must agree with the
// request's: the same bytes read as two different things would be two different
// images (CVE-2021-41190).
func describe(claimed string, body []byte) (registry.Manifest, error) {
	bad := func(format string, args ...any) (registry.Manifest, error) {
		return registry.Manifest{}, fail(http.StatusBadRequest, codeManifestInvalid, format, args...)
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return bad("the manifest is not JSON: %v", err)
	}
	kind, _, err := mime.ParseMediaType(claimed)
	if err != nil {
		if kind = d.MediaType; claimed != "" || kind == "" {
			return bad("Content-Type %.100q is no media type", claimed)
		}
	}
	switch parts := len(d.Layers) + len(d.Blobs) + len(d.Manifests); {
	case len(kind) > maxMediaType:
		return bad("the media type is longer than %d characters", maxMediaType)
	case d.MediaType != "" && d.MediaType != kind:
		return bad("the manifest says it is %.100q, the request says %.100q", d.MediaType, kind)
	case d.SchemaVersion == 1:
		return bad("manifests of schema 1 are not taken: push the image with a newer client")
	case d.Config != nil && len(d.Manifests) > 0:
		return bad("the manifest is an image and an index at once")
	case parts > maxParts:
		return bad("the manifest refers to %d things, at most %d are taken", parts, maxParts)
	}
	return d.read(kind)
}

// read collects what a manifest refers to.
func (d document) read(kind string) (registry.Manifest, error) {
	m := registry.Manifest{MediaType: kind, ArtifactType: d.ArtifactType, Annotations: d.Annotations}
	if d.Config != nil {
		m.Blobs = append(m.Blobs, d.Config.Digest)
		if m.ArtifactType == "" {
			m.ArtifactType = d.Config.MediaType
		}
	}
	for _, l := range append(d.Layers, d.Blobs...) {
		if !foreign(l) {
			m.Blobs = append(m.Blobs, l.Digest)
		}
	}
	for _, c := range d.Manifests {
		m.Manifests = append(m.Manifests, c.Digest)
	}
	if d.Subject != nil {
		m.Subject = d.Subject.Digest
	}
	refs := append(append([]digest.Digest{}, m.Blobs...), m.Manifests...)
	if d.Subject != nil {
		refs = append(refs, m.Subject)
	}
	for _, dgst := range refs {
		if err := dgst.Validate(); err != nil {
			return m, fail(http.StatusBadRequest, codeManifestInvalid, "the manifest refers to %.200q, which is no digest: %v", dgst, err)
		}
	}
	return m, nil
}

// foreign are layers that are fetched from elsewhere and needn't be here.
func foreign(d ocispec.Descriptor) bool {
	return len(d.URLs) > 0 && (strings.Contains(d.MediaType, "nondistributable") || strings.Contains(d.MediaType, "foreign"))
}

// keep stores the bytes and records the manifest.
func (r *Registry) keep(q *request, m registry.Manifest, body []byte, tags []string) error {
	ctx, end, err := r.held(context.WithoutCancel(q.Context()))
	if err != nil {
		return err
	}
	defer end()
	if err := r.write(ctx, m.Digest, body); err != nil {
		return err
	}
	done, err := r.room(ctx, q.repo, m.Digest, m.Size)
	if err != nil {
		return err
	}
	defer done()
	return r.Catalog.PutManifest(ctx, q.repo, m, registry.PutOptions{Tags: tags, Sparse: r.cfg.Sparse, Keep: r.immutable(q.repo)})
}

// write stores a small blob.
func (r *Registry) write(ctx context.Context, dgst digest.Digest, body []byte) error {
	name := "registry/manifest/" + newUpload()
	w, err := r.Blobs.Writer(ctx, content.WriterOptions{Ref: name, Descriptor: ocispec.Descriptor{Digest: dgst, Size: int64(len(body))}})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	st, err := w.Status()
	if err == nil && st.Offset == 0 { // else another namespace has it
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Commit(ctx, int64(len(body)), dgst, nil)
	}
	if err == nil || errdefs.IsAlreadyExists(err) {
		return nil
	}
	return errors.Join(fmt.Errorf("manifest %s: %w", dgst, err), r.Blobs.Abort(ctx, name))
}

// deleteManifest removes a tag, or a manifest with all its tags.
func (r *Registry) deleteManifest(q *request) error {
	if !strings.Contains(q.ref, ":") {
		if keep := r.immutable(q.repo); keep != nil && keep(q.ref) {
			return fail(http.StatusConflict, codeDenied, "tag %s of repository %s is immutable", q.ref, q.repo)
		}
		if err := r.Catalog.DeleteTag(q.Context(), q.repo, q.ref); err != nil {
			return explain(err, codeManifestUnknown)
		}
		r.tell(q, Event{Kind: EventDelete, Tag: q.ref})
		q.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	dgst, err := readDigest(q.ref)
	if err != nil {
		return err
	}
	if err := r.Catalog.DeleteManifest(q.Context(), q.repo, dgst, r.immutable(q.repo)); err != nil {
		return explain(err, codeManifestUnknown)
	}
	r.tell(q, Event{Kind: EventDelete, Digest: dgst})
	q.w.WriteHeader(http.StatusAccepted)
	return nil
}
