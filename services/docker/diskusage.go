package docker

import (
	apibuild "github.com/moby/moby/api/types/build"
	"net/http"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/orlop/orlop/services/engine"
)

// legacyUsage is disk usage before [newDiskUsage].
type legacyUsage struct {
	LayersSize  int64
	BuilderSize int64
	Images      any // of image.Summary, as the version has it
	Containers  []api.Summary
	Volumes     []volume.Volume
	BuildCache  []apibuild.CacheRecord
}

// diskUsage tells what images and containers take. Layers that several images share
// count for each.
func diskUsage(s *Server, c *call) error {
	ctx := c.r.Context()
	images, err := s.engine.ListImages(ctx, engine.Filters{})
	if err != nil {
		return err
	}
	all, err := s.engine.List(ctx, engine.ListOptions{All: true})
	if err != nil {
		return err
	}
	sums := []image.Summary{}
	out := legacyUsage{Containers: []api.Summary{}, BuildCache: []apibuild.CacheRecord{}}
	vol, err := s.volumeUsage(c)
	if err != nil {
		return err
	}
	out.Volumes = vol.Items
	cache, err := s.buildUsage(c)
	if err != nil {
		return err
	}
	out.BuildCache, out.BuilderSize = cache.Items, cache.TotalSize
	users := s.engine.ImageUsers()
	img := image.DiskUsage{TotalCount: int64(len(images))}
	for _, d := range images {
		sums = append(sums, encodeSummary(d, users[d.ID]))
		out.LayersSize += d.Size
		if img.TotalSize += d.Size; users[d.ID] > 0 {
			img.ActiveCount++
		} else {
			img.Reclaimable += d.Size
		}
	}
	con := api.DiskUsage{TotalCount: int64(len(all))}
	for _, v := range all {
		sum := encodeContainer(v)
		sum.SizeRw, sum.SizeRootFs = s.engine.Sizes(ctx, v)
		out.Containers = append(out.Containers, sum)
		if con.TotalSize += sum.SizeRw; v.State.Running {
			con.ActiveCount++
		} else {
			con.Reclaimable += sum.SizeRw
		}
	}
	if c.version < newDiskUsage {
		out.Images = summariesFor(sums, c.version)
		return c.send(http.StatusOK, out)
	}
	if c.flag("verbose") {
		img.Items, con.Items = sums, out.Containers
	} else {
		vol.Items, cache.Items = nil, nil
	}
	return c.send(http.StatusOK, system.DiskUsage{ImageUsage: &img, ContainerUsage: &con, VolumeUsage: &vol, BuildCacheUsage: &cache})
}
