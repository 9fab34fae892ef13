package docker

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/services/engine"
)

var archiveRoutes = []route{
	{method: "HEAD", path: "/containers/{id}/archive", handle: statArchive},
	{method: "GET", path: "/containers/{id}/archive", handle: getArchive},
	{method: "PUT", path: "/containers/{id}/archive", handle: putArchive},
}

// tell puts a file's description into the headers.
func (c *call) tell(st api.PathStat) {
	data, err := json.Marshal(st)
	if err != nil {
		panic(err) // it has nothing that could not be written
	}
	c.w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(data))
}

func statArchive(s *Server, c *call) error {
	st, err := s.engine.StatPath(c.r.Context(), c.vars["id"], c.query("path"))
	if err != nil {
		return err
	}
	c.tell(st)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func getArchive(s *Server, c *call) error {
	begun := false
	err := s.engine.ReadArchive(c.r.Context(), c.vars["id"], c.query("path"), func(st api.PathStat) io.Writer {
		begun = true
		c.tell(st)
		c.w.Header().Set("Content-Type", "application/x-tar")
		c.w.WriteHeader(http.StatusOK)
		return c.w
	})
	if err != nil && begun {
		panic(http.ErrAbortHandler) // the archive must not look whole
	}
	return err
}

func putArchive(s *Server, c *call) error {
	o := engine.WriteOptions{Path: c.query("path"), KeepKinds: c.flag("noOverwriteDirNonDir"), ChangeOwner: c.flag("copyUIDGID")}
	if err := s.engine.WriteArchive(c.r.Context(), c.vars["id"], o, c.r.Body); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}
