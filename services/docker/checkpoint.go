package docker

import (
	"net/http"

	"github.com/moby/moby/api/types/checkpoint"

	"github.com/orlop/orlop/services/engine"
)

// checkpointRoutes are those of checkpoints, which the published description leaves out:
// they are experimental with Docker.
var checkpointRoutes = []route{
	{method: "GET", path: "/containers/{id}/checkpoints", handle: checkpoints},
	{method: "POST", path: "/containers/{id}/checkpoints", handle: makeCheckpoint},
	{method: "DELETE", path: "/containers/{id}/checkpoints/{name}", handle: removeCheckpoint},
}

func checkpoints(s *Server, c *call) error {
	names, err := s.engine.Checkpoints(c.vars["id"], c.query("dir"))
	if err != nil {
		return err
	}
	out := []checkpoint.Summary{}
	for _, name := range names {
		out = append(out, checkpoint.Summary{Name: name})
	}
	return c.send(http.StatusOK, out)
}

func makeCheckpoint(s *Server, c *call) error {
	var req checkpoint.CreateRequest
	if err := c.body(&req, true); err != nil {
		return err
	}
	o := engine.CheckpointOptions{Name: req.CheckpointID, Dir: req.CheckpointDir, Exit: req.Exit}
	if err := s.engine.Checkpoint(c.r.Context(), c.vars["id"], o); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func removeCheckpoint(s *Server, c *call) error {
	if err := s.engine.RemoveCheckpoint(c.vars["id"], c.vars["name"], c.query("dir")); err != nil {
		return err
	}
	return c.done()
}
