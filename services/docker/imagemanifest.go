package docker

import (
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/orlop/orlop/services/engine"
)

// manifestsOf are an image's manifests, nil if the client doesn't ask for them.
func (s *Server) manifestsOf(c *call, since version, img engine.Image) ([]image.ManifestSummary, error) {
	if c.version < since || !c.flag("manifests") {
		return nil, nil
	}
	all, err := s.engine.Manifests(c.r.Context(), img)
	if err != nil {
		return nil, err
	}
	out := []image.ManifestSummary{}
	for _, p := range all {
		m := image.ManifestSummary{ID: p.Desc.Digest.String(), Descriptor: p.Desc, Available: p.Available, Kind: image.ManifestKindUnknown}
		m.Size.Content, m.Size.Total = p.Content, p.Content+p.Unpacked
		switch {
		case p.For != "":
			m.Kind, m.AttestationData = image.ManifestKindAttestation, &image.AttestationProperties{For: p.For}
		case p.Image:
			m.Kind, m.ImageData = image.ManifestKindImage, &image.ImageProperties{Platform: p.Platform, Containers: p.Users}
			m.ImageData.Size.Unpacked = p.Unpacked
			if p.Users == nil {
				m.ImageData.Containers = []string{}
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// attestations tells what is attested of an image.
func attestations(s *Server, c *call) error {
	q := c.r.URL.Query()
	if len(q["platform"]) > 1 {
		return badRequest("only one platform value is currently supported")
	}
	p, err := c.platform("platform")
	if err != nil {
		return err
	}
	img, err := s.engine.FindImage(c.r.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	var want ocispec.Platform
	if p != nil {
		want = *p
	}
	all, err := s.engine.Attestations(c.r.Context(), img, want, c.flag("statement"))
	if err != nil {
		return err
	}
	out := []image.AttestationStatement{}
	for _, a := range all {
		if len(q["type"]) > 0 && !slices.Contains(q["type"], a.Predicate) {
			continue
		}
		one := image.AttestationStatement{Descriptor: a.Desc, PredicateType: a.Predicate}
		if a.Body != nil {
			one.Statement = &a.Body
		}
		out = append(out, one)
	}
	return c.send(http.StatusOK, out)
}
