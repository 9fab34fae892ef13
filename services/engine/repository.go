package engine

import (
	"context"
	"strings"

	"github.com/distribution/reference"

	"github.com/orlop/orlop/core/image"
)

// repositoryImages are all images of a repository, by their tags, if ref names one and
// neither a tag nor an ID.
func (e *Engine) repositoryImages(ctx context.Context, ref string) ([]image.Image, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) || shortID.MatchString(ref) {
		return nil, nil
	}
	all, err := e.Parts.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []image.Image
	for _, img := range all {
		if tag, ok := strings.CutPrefix(img.Name, named.Name()+":"); ok && !strings.ContainsAny(tag, "/@") {
			out = append(out, image.Image{Name: img.Name, Target: img.Target})
			e.tellImage("save", img.Target.Digest.String(), familiar(img.Name))
		}
	}
	return out, nil
}
