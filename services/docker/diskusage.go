package docker

import (
	"net/http"
	"slices"

	apibuild "github.com/moby/moby/api/types/build"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/orlop/orlop/services/engine"
)

// legacyUsage is disk usage before [newDiskUsage], which has it beside the new one.
type legacyUsage struct {
	LayersSize  int64
	BuilderSize *int64                 `json:",omitempty"`
	Images      any                    // of image.Summary, as the version has it
	Containers  []api.Summary          `json:"Containers"`
	Volumes     []volume.Volume        `json:"Volumes"`
	BuildCache  []apibuild.CacheRecord `json:"BuildCache"`
}

// usageKinds are what disk usage can be asked of.
var usageKinds = []system.DiskUsageObject{system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject}

// wantedUsage are the kinds that the client wants: all, if it names none.
func wantedUsage(c *call) ([]system.DiskUsageObject, error) {
	given := c.r.URL.Query()["type"]
	if len(given) == 0 || c.version < usageTypes {
		return usageKinds, nil
	}
	var out []system.DiskUsageObject
	for _, text := range given {
		if !slices.Contains(usageKinds, system.DiskUsageObject(text)) {
			return nil, badRequest("unknown object type: %s", text)
		}
		out = append(out, system.DiskUsageObject(text))
	}
	return out, nil
}

// diskUsage tells what things take. Layers that several images share count for each.
func diskUsage(s *Server, c *call) error {
	kinds, err := wantedUsage(c)
	if err != nil {
		return err
	}
	var all system.DiskUsage
	for _, kind := range kinds {
		switch kind {
		case system.ImageObject:
			all.ImageUsage, err = s.imageUsage(c)
		case system.ContainerObject:
			all.ContainerUsage, err = s.containerUsage(c)
		case system.VolumeObject:
			all.VolumeUsage, err = s.volumeUsage(c)
		case system.BuildCacheObject:
			all.BuildCacheUsage, err = s.buildUsage(c)
		}
		if err != nil {
			return err
		}
	}
	old := legacyOf(&all, c.version)
	if c.version < newDiskUsage {
		return c.send(http.StatusOK, old)
	}
	if c.flag("verbose") {
		return c.send(http.StatusOK, all)
	}
	all.ImageUsage, all.ContainerUsage, all.VolumeUsage, all.BuildCacheUsage = brief(all)
	if c.version > newDiskUsage {
		return c.send(http.StatusOK, all)
	}
	return c.send(http.StatusOK, struct {
		system.DiskUsage
		legacyUsage
	}{all, old})
}

// brief leaves out the single things.
func brief(u system.DiskUsage) (*image.DiskUsage, *api.DiskUsage, *volume.DiskUsage, *apibuild.DiskUsage) {
	if u.ImageUsage != nil {
		x := *u.ImageUsage
		x.Items, u.ImageUsage = nil, &x
	}
	if u.ContainerUsage != nil {
		x := *u.ContainerUsage
		x.Items, u.ContainerUsage = nil, &x
	}
	if u.VolumeUsage != nil {
		x := *u.VolumeUsage
		x.Items, u.VolumeUsage = nil, &x
	}
	if u.BuildCacheUsage != nil {
		x := *u.BuildCacheUsage
		x.Items, u.BuildCacheUsage = nil, &x
	}
	return u.ImageUsage, u.ContainerUsage, u.VolumeUsage, u.BuildCacheUsage
}

// legacyOf is disk usage in its old form. What wasn't asked for is null.
func legacyOf(u *system.DiskUsage, v version) legacyUsage {
	var out legacyUsage
	if u.ImageUsage != nil {
		out.LayersSize, out.Images = u.ImageUsage.TotalSize, summariesFor(u.ImageUsage.Items, v)
	}
	if u.ContainerUsage != nil {
		out.Containers = u.ContainerUsage.Items
	}
	if u.VolumeUsage != nil {
		out.Volumes = u.VolumeUsage.Items
	}
	if u.BuildCacheUsage != nil {
		out.BuildCache = u.BuildCacheUsage.Items
		if v < builderSize {
			out.BuilderSize = &u.BuildCacheUsage.TotalSize
		}
	}
	return out
}

func (s *Server) imageUsage(c *call) (*image.DiskUsage, error) {
	images, err := s.engine.ListImages(c.r.Context(), engine.Filters{})
	if err != nil {
		return nil, err
	}
	users := s.engine.ImageUsers()
	out := &image.DiskUsage{TotalCount: int64(len(images)), Items: []image.Summary{}}
	for _, d := range images {
		out.Items = append(out.Items, encodeSummary(d, users[d.ID]))
		if out.TotalSize += d.Size; users[d.ID] > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += d.Size
		}
	}
	return out, nil
}

func (s *Server) containerUsage(c *call) (*api.DiskUsage, error) {
	all, err := s.engine.List(c.r.Context(), engine.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	out := &api.DiskUsage{TotalCount: int64(len(all)), Items: []api.Summary{}}
	for _, v := range all {
		sum := encodeContainer(v)
		sum.ImageManifestDescriptor = nil // which lists alone tell
		sum.SizeRw, sum.SizeRootFs = s.engine.Sizes(c.r.Context(), v)
		out.Items = append(out.Items, sum)
		if out.TotalSize += sum.SizeRw; v.State.Running {
			out.ActiveCount++
		} else {
			out.Reclaimable += sum.SizeRw
		}
	}
	return out, nil
}
