package registry

import (
	"encoding/json"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/core/registry"
)

// base tells that this is a registry, to those who may use one.
func (r *Registry) base(q *request) error {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "%s can't be done with a registry", q.Method)
	}
	if _, err := r.auth.Authorize(q.Request, Access{}); err != nil {
		return err
	}
	return q.json(http.StatusOK, "application/json; charset=utf-8", struct{}{})
}

func (q *request) json(status int, kind string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", kind)
	q.w.WriteHeader(status)
	if q.Method != http.MethodHead {
		q.w.Write(data)
	}
	return nil
}

// repositories lists those that the caller may pull from.
func (r *Registry) repositories(q *request) error {
	if q.Method != http.MethodGet {
		return fail(http.StatusMethodNotAllowed, codeUnsupported, "%s can't be done with the catalog", q.Method)
	}
	who, err := r.auth.Authorize(q.Request, Access{Catalog: true})
	if err != nil {
		return err
	}
	p, err := q.page()
	if err != nil {
		return err
	}
	names, more, err := r.visible(q, who, p)
	if err != nil {
		return err
	}
	if more {
		q.next(names[len(names)-1], p.N)
	}
	return q.json(http.StatusOK, "application/json; charset=utf-8", map[string][]string{"repositories": names})
}

// visible collects a page of names that the caller may see.
func (r *Registry) visible(q *request, who Identity, p registry.Page) (names []string, more bool, err error) {
	names = []string{}
	for after := p.After; ; {
		batch, err := r.Catalog.Repositories(q.Context(), registry.Page{After: after, N: maxPage})
		if err != nil {
			return nil, false, err
		}
		for _, name := range batch {
			if !who.May(Access{Repository: name, Catalog: true}) {
				continue
			}
			if len(names) == p.N {
				return names, len(names) > 0, nil
			}
			names = append(names, name)
		}
		if len(batch) < maxPage {
			return names, false, nil
		}
		after = batch[len(batch)-1]
	}
}

// tags lists a repository's tags in order.
func (r *Registry) tags(q *request) error {
	p, err := q.page()
	if err != nil {
		return err
	}
	found, err := r.Catalog.Tags(q.Context(), q.repo, registry.Page{After: p.After, N: p.N + 1})
	if err != nil {
		return explain(err, codeNameUnknown)
	}
	names := []string{}
	for _, t := range found[:min(len(found), p.N)] {
		names = append(names, t.Name)
	}
	if len(found) > p.N && p.N > 0 {
		q.next(names[p.N-1], p.N)
	}
	return q.json(http.StatusOK, "application/json; charset=utf-8", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{q.repo, names})
}

// maxReferrers bounds an answer.
const maxReferrers = 500

// referrers lists what refers to a manifest, as an index.
func (r *Registry) referrers(q *request) error {
	subject, err := readDigest(q.ref)
	if err != nil {
		return err
	}
	p := registry.Page{After: q.args.Get("last"), N: maxReferrers + 1}
	found, err := r.Catalog.Referrers(q.Context(), q.repo, subject, p)
	if err != nil {
		return err
	}
	if len(found) > maxReferrers {
		found = found[:maxReferrers]
		args := q.URL.Query()
		args.Set("last", found[maxReferrers-1].Digest.String())
		q.w.Header().Set("Link", "<"+q.URL.Path+"?"+args.Encode()+`>; rel="next"`)
	}
	wanted := q.args.Get("artifactType")
	if wanted != "" {
		q.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	out := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	out.SchemaVersion = 2
	for _, m := range found {
		if wanted != "" && m.ArtifactType != wanted {
			continue
		}
		out.Manifests = append(out.Manifests, ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations})
	}
	return q.json(http.StatusOK, ocispec.MediaTypeImageIndex, out)
}
