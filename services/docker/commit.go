package docker

import (
	"net/http"

	"github.com/moby/moby/api/types/common"
	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/services/engine"
)

var commitRoutes = []route{
	{method: "POST", path: "/commit", handle: commit},
}

func commit(s *Server, c *call) error {
	o := engine.Commitment{Repo: c.query("repo"), Tag: c.query("tag"), Author: c.query("author"), Comment: c.query("comment"),
		Pause: c.query("pause") == "" || c.flag("pause"), Changes: c.r.URL.Query()["changes"]}
	var config *api.Config
	if c.r.ContentLength != 0 {
		if err := c.body(&config, false); err != nil {
			return err
		}
	}
	o.Config = config
	id, err := s.engine.Commit(c.r.Context(), c.query("container"), o)
	if err != nil {
		return err
	}
	return c.send(http.StatusCreated, common.IDResponse{ID: id.String()})
}

// importImage is docker import: an image of an archive in the request's body.
func importImage(s *Server, c *call) error {
	p, err := c.platform("platform")
	if err != nil {
		return err
	}
	src := c.query("fromSrc")
	from, err := importSource(c, src)
	if err != nil {
		return err
	}
	defer from.Close()
	o := engine.Importation{Repo: c.query("repo"), Tag: c.query("tag"), Message: c.query("message"), Changes: c.r.URL.Query()["changes"]}
	if o.Message == "" {
		o.Message = "Imported from " + src
	}
	if p != nil {
		o.Platform = *p
	}
	id, err := s.engine.Import(c.r.Context(), o, from)
	if err != nil {
		return err
	}
	return ignore(newJSONStream(c).write(progress{Status: id.String()}))
}
