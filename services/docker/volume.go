package docker

import (
	"net/http"
	"time"

	"github.com/moby/moby/api/types/volume"

	"github.com/orlop/orlop/services/engine"
	volumes "github.com/orlop/orlop/services/volume"
)

var volumeRoutes = []route{
	{method: "GET", path: "/volumes", handle: listVolumes},
	{method: "POST", path: "/volumes/create", handle: createVolume},
	{method: "POST", path: "/volumes/prune", handle: pruneVolumes},
	{method: "GET", path: "/volumes/{name}", handle: inspectVolume},
	{method: "PUT", path: "/volumes/{name}", handle: updateVolume},
	{method: "DELETE", path: "/volumes/{name}", handle: removeVolume},
}

func encodeVolume(v engine.VolumeView) volume.Volume {
	out := volume.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: v.Path, CreatedAt: v.Created.Format(time.RFC3339), Scope: "local",
		Labels: v.Labels, Options: v.Options}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if v.Size >= 0 {
		out.UsageData = &volume.UsageData{RefCount: int64(len(v.Holders)), Size: v.Size}
	}
	return out
}

func createVolume(s *Server, c *call) error {
	var req volume.CreateRequest
	if err := c.body(&req, true); err != nil {
		return err
	}
	if req.ClusterVolumeSpec != nil {
		return noSwarm(s, c)
	}
	v, err := s.engine.CreateVolume(c.r.Context(), volumes.Request{Name: req.Name, Driver: req.Driver, Options: req.DriverOpts, Labels: req.Labels})
	if err != nil {
		return err
	}
	return c.send(http.StatusCreated, encodeVolume(v))
}

func inspectVolume(s *Server, c *call) error {
	v, err := s.engine.InspectVolume(c.r.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, encodeVolume(v))
}

func listVolumes(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	all, err := s.engine.ListVolumes(c.r.Context(), f)
	if err != nil {
		return err
	}
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: nil}
	for _, v := range all {
		out.Volumes = append(out.Volumes, encodeVolume(v))
	}
	return c.send(http.StatusOK, out)
}

// updateVolume is for volumes of a swarm alone.
func updateVolume(s *Server, c *call) error { return noSwarm(s, c) }

func removeVolume(s *Server, c *call) error {
	if err := s.engine.RemoveVolume(c.r.Context(), c.vars["name"], c.flag("force")); err != nil {
		return err
	}
	return c.done()
}

func pruneVolumes(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	if c.version < pruneAnonymous && len(f["all"]) == 0 {
		f["all"] = []string{"true"}
	}
	names, freed, err := s.engine.PruneVolumes(c.r.Context(), f)
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, volume.PruneReport{VolumesDeleted: names, SpaceReclaimed: uint64(freed)})
}

// volumeUsage is what all volumes take.
func (s *Server) volumeUsage(c *call) (*volume.DiskUsage, error) {
	ctx := c.r.Context()
	all, err := s.engine.ListVolumes(ctx, engine.Filters{})
	if err == nil {
		err = s.engine.MeasureVolumes(ctx, all)
	}
	out := &volume.DiskUsage{Items: []volume.Volume{}, TotalCount: int64(len(all))}
	for _, v := range all {
		out.Items = append(out.Items, encodeVolume(v))
		out.TotalSize += max(v.Size, 0)
		if len(v.Holders) > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += max(v.Size, 0)
		}
	}
	return out, err
}
