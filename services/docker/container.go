package docker

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	api "github.com/moby/moby/api/types/container"

	"github.com/orlop/orlop/services/engine"
)

var containerRoutes = []route{
	{method: "GET", path: "/containers/json", handle: listContainers},
	{method: "POST", path: "/containers/create", handle: createContainer},
	{method: "POST", path: "/containers/prune", handle: pruneContainers},
	{method: "GET", path: "/containers/{id}/json", handle: inspectContainer},
	{method: "GET", path: "/containers/{id}/top", handle: top},
	{method: "GET", path: "/containers/{id}/changes", handle: changes},
	{method: "GET", path: "/containers/{id}/export", handle: export},
	{method: "POST", path: "/containers/{id}/start", handle: start},
	{method: "POST", path: "/containers/{id}/stop", handle: stop},
	{method: "POST", path: "/containers/{id}/restart", handle: restart},
	{method: "POST", path: "/containers/{id}/kill", handle: kill},
	{method: "POST", path: "/containers/{id}/pause", handle: pause},
	{method: "POST", path: "/containers/{id}/unpause", handle: unpause},
	{method: "POST", path: "/containers/{id}/rename", handle: rename},
	{method: "POST", path: "/containers/{id}/resize", handle: resize},
	{method: "POST", path: "/containers/{id}/update", handle: update},
	{method: "POST", path: "/containers/{id}/wait", handle: wait},
	{method: "DELETE", path: "/containers/{id}", handle: remove},
	{method: "DELETE", path: "/containers/{id}/{alias}", handle: removeLink},
}

func createContainer(s *Server, c *call) error {
	n, err := c.creation(s.engine.Host(c.r.Context()).CgroupVersion == "1")
	if err != nil {
		return err
	}
	p, err := c.platformSince(platformOfContainer, "platform")
	if err != nil {
		return err
	}
	o := engine.Creation{Name: c.query("name"), Config: n.config, Host: n.host, Networks: n.nets, ShallowReadOnly: c.version < deepReadOnly}
	if p != nil {
		o.Platform = *p
	}
	id, warn, err := s.engine.Create(c.r.Context(), o)
	if err != nil {
		return err
	}
	return c.send(http.StatusCreated, api.CreateResponse{ID: id, Warnings: append(warn, n.warnings...)})
}

func listContainers(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	o := engine.ListOptions{All: c.flag("all"), Filters: f}
	limit, err := c.number("limit")
	if err != nil {
		return err
	}
	if limit != nil {
		o.Limit = *limit
	}
	all, err := s.engine.List(c.r.Context(), o)
	if err != nil {
		return err
	}
	out := []api.Summary{}
	for _, v := range all {
		sum := encodeContainer(v)
		sum.Health = healthSummary(v.State.Health)
		oldSummary(&sum, c.version)
		if c.flag("size") {
			sum.SizeRw, sum.SizeRootFs = s.engine.Sizes(c.r.Context(), v)
		}
		out = append(out, sum)
	}
	return c.send(http.StatusOK, out)
}

func inspectContainer(s *Server, c *call) error {
	v, err := s.engine.Inspect(c.vars["id"])
	if err != nil {
		return err
	}
	out := encodeInspect(v)
	if c.flag("size") {
		own, all := s.engine.Sizes(c.r.Context(), v)
		out.SizeRw, out.SizeRootFs = &own, &all
	}
	return c.send(http.StatusOK, forVersion(out, v, c.version))
}

func start(s *Server, c *call) error {
	if c.r.ContentLength > 7 { // "null\n" and the like are passed over, as in Docker
		return badRequest("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	var err error
	if name := c.query("checkpoint"); name != "" {
		err = s.engine.StartFrom(c.r.Context(), c.vars["id"], name, c.query("checkpoint-dir"))
	} else {
		err = s.engine.Start(c.r.Context(), c.vars["id"])
	}
	if err != nil {
		return err
	}
	return c.done()
}

func (c *call) stopOptions() (o engine.StopOptions, err error) {
	if c.version >= signalOfStop {
		o.Signal = c.query("signal")
	}
	o.Timeout, err = c.number("t")
	return o, err
}

func stop(s *Server, c *call) error {
	o, err := c.stopOptions()
	if err == nil {
		err = s.engine.Stop(c.r.Context(), c.vars["id"], o)
	}
	if err != nil {
		return err
	}
	return c.done()
}

func restart(s *Server, c *call) error {
	o, err := c.stopOptions()
	if err == nil {
		err = s.engine.Restart(c.r.Context(), c.vars["id"], o)
	}
	if err != nil {
		return err
	}
	return c.done()
}

func kill(s *Server, c *call) error {
	if err := s.engine.Kill(c.r.Context(), c.vars["id"], c.query("signal")); err != nil {
		return err
	}
	return c.done()
}

func pause(s *Server, c *call) error {
	if err := s.engine.Pause(c.r.Context(), c.vars["id"]); err != nil {
		return err
	}
	return c.done()
}

func unpause(s *Server, c *call) error {
	if err := s.engine.Unpause(c.r.Context(), c.vars["id"]); err != nil {
		return err
	}
	return c.done()
}

func rename(s *Server, c *call) error {
	if err := s.engine.Rename(c.r.Context(), c.vars["id"], c.query("name")); err != nil {
		return err
	}
	return c.done()
}

// size reads a terminal's size.
func (c *call) size() (height, width uint32, err error) {
	if height, err = c.side("h", "height"); err == nil {
		width, err = c.side("w", "width")
	}
	return height, width, err
}

// side reads one side of a terminal, in characters.
func (c *call) side(key, name string) (uint32, error) {
	text := c.query(key)
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (n < 0 || n > math.MaxUint32) {
		err = strconv.ErrRange
	}
	if err != nil {
		reason := err
		if e := (*strconv.NumError)(nil); errors.As(err, &e) {
			reason = e.Err
		}
		return 0, badRequest("invalid resize %s %q: %v", name, text, reason)
	}
	return uint32(min(n, math.MaxUint16)), nil // the kernel's bound
}

func resize(s *Server, c *call) error {
	h, w, err := c.size()
	if err == nil {
		err = s.engine.Resize(c.r.Context(), c.vars["id"], h, w)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func update(s *Server, c *call) error {
	var u api.UpdateConfig
	if err := c.body(&u, true); err != nil {
		return err
	}
	oldUpdate(&u, c.version)
	if err := s.engine.Update(c.r.Context(), c.vars["id"], u); err != nil {
		return err
	}
	return c.send(http.StatusOK, api.UpdateResponse{Warnings: []string{}})
}

func remove(s *Server, c *call) error {
	if c.flag("link") {
		return &apiError{"Conflict, cannot remove the default link name of the container", http.StatusConflict}
	}
	if err := s.engine.RemoveWith(c.r.Context(), c.vars["id"], engine.RemoveOptions{Force: c.flag("force"), Volumes: c.flag("v")}); err != nil {
		return err
	}
	return c.done()
}

// removeLink takes away a link, whose name is that of who has it and its alias.
func removeLink(s *Server, c *call) error {
	if !c.flag("link") {
		return &apiError{"No such container: " + c.vars["id"] + "/" + c.vars["alias"], http.StatusNotFound}
	}
	if err := s.engine.Unlink(c.r.Context(), c.vars["id"], c.vars["alias"]); err != nil {
		return err
	}
	return c.done()
}

// wait sends its headers before the end: clients start the container when they have them.
func wait(s *Server, c *call) error {
	var what engine.WaitFor
	if c.version >= waitCondition {
		what = engine.WaitFor(c.query("condition"))
	}
	w, err := s.engine.Wait(c.vars["id"], what)
	if err != nil {
		return err
	}
	defer w.Close()
	out := newJSONStream(c)
	if c.version >= waitCondition {
		out.begin()
	}
	st, err := w.Done(c.r.Context())
	if err != nil {
		return nil // the client has gone, or the daemon goes
	}
	return ignore(out.write(api.WaitResponse{StatusCode: int64(st.ExitCode)}))
}

func top(s *Server, c *call) error {
	head, rows, err := s.engine.Top(c.r.Context(), c.vars["id"], c.query("ps_args"))
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, api.TopResponse{Titles: head, Processes: rows})
}

func changes(s *Server, c *call) error {
	list, err := s.engine.Changes(c.r.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	out := []api.FilesystemChange{}
	for _, ch := range list {
		out = append(out, api.FilesystemChange{Kind: api.ChangeType(ch.Kind), Path: ch.Path})
	}
	return c.send(http.StatusOK, out)
}

func export(s *Server, c *call) error {
	if _, err := s.engine.Inspect(c.vars["id"]); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.engine.Export(c.r.Context(), c.vars["id"], c.w); err != nil {
		panic(http.ErrAbortHandler) // the archive must not look whole
	}
	return nil
}

func pruneContainers(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	ids, freed, err := s.engine.Prune(c.r.Context(), f)
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, api.PruneReport{ContainersDeleted: ids, SpaceReclaimed: uint64(freed)})
}

// ago is a state as people read it.
func ago(s engine.State) string {
	since := func(t time.Time) string { return humanDuration(time.Since(t)) }
	switch {
	case s.Removing:
		return "Removal In Progress"
	case s.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case s.Paused:
		return fmt.Sprintf("Up %s (Paused)", since(s.StartedAt))
	case s.Running:
		return "Up " + since(s.StartedAt) + healthNote(s.Health)
	case s.StartedAt.IsZero():
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
}
