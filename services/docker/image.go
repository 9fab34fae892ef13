package docker

import (
	"encoding/json"
	"net/http"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/containerd/platforms"

	"github.com/orlop/orlop/services/engine"
)

var imageRoutes = []route{
	{method: "GET", path: "/images/json", handle: listImages},
	{method: "POST", path: "/images/create", handle: pullImage},
	{method: "POST", path: "/images/load", handle: loadImages},
	{method: "POST", path: "/images/prune", handle: pruneImages},
	{method: "GET", path: "/images/get", handle: saveImages},
	{method: "GET", path: "/images/{name...}/get", handle: saveImages},
	{method: "GET", path: "/images/{name...}/json", handle: inspectImage},
	{method: "GET", path: "/images/{name...}/attestations", handle: attestations},
	{method: "GET", path: "/images/{name...}/history", handle: imageHistory},
	{method: "POST", path: "/images/{name...}/push", handle: pushImage},
	{method: "POST", path: "/images/{name...}/tag", handle: tagImage},
	{method: "DELETE", path: "/images/{name...}", handle: removeImage},
}

// platformSince is [call.platform] for a parameter that older clients can't have meant.
func (c *call) platformSince(v version, key string) (*ocispec.Platform, error) {
	if c.version < v {
		return nil, nil
	}
	return c.platform(key)
}

// platformsSince reads a parameter that may be there several times.
func (c *call) platformsSince(v version, key string) ([]ocispec.Platform, error) {
	if c.version < v {
		return nil, nil
	}
	var out []ocispec.Platform
	for _, text := range c.r.URL.Query()[key] {
		p, err := parsePlatform(text)
		if err != nil {
			return nil, err
		}
		if p != nil {
			out = append(out, *p)
		}
	}
	return out, nil
}

// platform reads a parameter that is JSON or os/arch[/variant]; nil if it is missing.
func (c *call) platform(key string) (*ocispec.Platform, error) { return parsePlatform(c.query(key)) }

func parsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	var p ocispec.Platform
	if text[0] == '{' {
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.OS == "" || p.Architecture == "" {
			return nil, badRequest("invalid platform %q", text)
		}
		return &p, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, badRequest("invalid platform %q: %v", text, err)
	}
	return &p, nil
}

func listImages(s *Server, c *call) error {
	if c.version >= 54 && c.flag("identity") && !c.flag("manifests") {
		return badRequest("conflicting options: identity requires manifests=1")
	}
	f, err := c.filters()
	if err != nil {
		return err
	}
	if name := c.query("filter"); name != "" && c.version < noFilterName {
		f["reference"] = append(f["reference"], name)
	}
	all, err := s.engine.ListImages(c.r.Context(), f)
	if err != nil {
		return err
	}
	users := s.engine.ImageUsers()
	out := []image.Summary{}
	for _, d := range all {
		sum := encodeSummary(d, users[d.ID])
		if sum.Manifests, err = s.manifestsOf(c, manifestsInList, d.Image); err != nil {
			return err
		}
		out = append(out, sum)
	}
	return c.send(http.StatusOK, summariesFor(out, c.version))
}

func encodeSummary(d *engine.Details, users int64) image.Summary {
	target := d.Target
	labels := d.Config.Config.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return image.Summary{
		ID: d.ID.String(), RepoTags: d.RepoTags(), RepoDigests: d.RepoDigests(), Labels: labels, Created: d.Born().Unix(),
		Size: d.Size, SharedSize: -1, Containers: users, Descriptor: &target,
	}
}

func inspectImage(s *Server, c *call) error {
	p, err := c.platformSince(platformOfImage, "platform")
	if err != nil {
		return err
	}
	d, err := details(s, c, p)
	if err != nil {
		return err
	}
	target := d.Target
	if p != nil {
		target = *d.Describe()
	}
	out := image.InspectResponse{
		ID: d.ID.String(), RepoTags: d.RepoTags(), RepoDigests: d.RepoDigests(), Comment: d.Config.Comment, Author: d.Config.Author,
		Architecture: d.Config.Architecture, Variant: d.Config.Variant, Os: d.Config.OS, OsVersion: d.Config.OSVersion, Size: d.Size,
		RootFS: image.RootFS{Type: d.Config.RootFS.Type}, Metadata: image.Metadata{LastTagTime: d.Image.Created}, Descriptor: &target,
	}
	if p != nil && c.version >= manifestsOfImage && c.flag("manifests") {
		return badRequest("conflicting options: manifests and platform options cannot both be set")
	}
	if out.Manifests, err = s.manifestsOf(c, manifestsOfImage, d.Image); err != nil {
		return err
	}
	for _, diff := range d.Config.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, diff.String())
	}
	if d.Config.Created != nil {
		out.Created = d.Config.Created.Format(time.RFC3339Nano)
	}
	if len(d.Config.Docker) > 0 {
		out.Config = &dockerspec.DockerOCIImageConfig{}
		if err := json.Unmarshal(d.Config.Docker, out.Config); err != nil {
			return err
		}
	}
	if c.version < plainNetwork {
		out.GraphDriver = &storage.DriverData{Name: s.engine.Host(c.r.Context()).Snapshotter, Data: map[string]string{}}
	}
	return c.send(http.StatusOK, imageFor(out, c.version))
}

func details(s *Server, c *call, p *ocispec.Platform) (*engine.Details, error) {
	img, err := s.engine.FindImage(c.r.Context(), c.vars["name"])
	if err != nil {
		return nil, err
	}
	var want ocispec.Platform
	if p != nil {
		want = *p
	}
	return s.engine.Details(c.r.Context(), img, want)
}

func imageHistory(s *Server, c *call) error {
	p, err := c.platformSince(platformOfArchive, "platform")
	if err != nil {
		return err
	}
	d, err := details(s, c, p)
	if err != nil {
		return err
	}
	out := []image.HistoryResponseItem{}
	layer := 0
	for _, h := range d.Config.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, CreatedBy: h.CreatedBy, Tags: []string{}}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer {
			if layer < len(d.LayerSizes) {
				item.Size = d.LayerSizes[layer]
			}
			layer++
		}
		out = append([]image.HistoryResponseItem{item}, out...)
	}
	if len(out) == 0 { // built without one: a line for each layer
		for _, size := range d.LayerSizes {
			out = append([]image.HistoryResponseItem{{ID: "<missing>", Size: size, Created: d.Born().Unix(), Tags: []string{}}}, out...)
		}
	}
	if len(out) > 0 {
		out[0].ID, out[0].Tags = d.ID.String(), d.RepoTags()
	}
	return c.send(http.StatusOK, out)
}

func tagImage(s *Server, c *call) error {
	if err := s.engine.Tag(c.r.Context(), c.vars["name"], c.query("repo"), c.query("tag")); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func removeImage(s *Server, c *call) error {
	list, err := c.platformsSince(50, "platforms")
	if err != nil {
		return err
	}
	var removed []engine.RemovedImage
	if len(list) > 0 {
		removed, err = s.engine.RemovePlatforms(c.r.Context(), c.vars["name"], list, c.flag("force"))
	} else {
		removed, err = s.engine.RemoveImage(c.r.Context(), c.vars["name"], c.flag("force"))
	}
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, encodeRemoved(removed))
}

func encodeRemoved(list []engine.RemovedImage) []image.DeleteResponse {
	out := []image.DeleteResponse{}
	for _, r := range list {
		out = append(out, image.DeleteResponse{Untagged: r.Untagged, Deleted: r.Deleted})
	}
	return out
}

func pruneImages(s *Server, c *call) error {
	f, err := c.filters()
	if err != nil {
		return err
	}
	if err := f.Known("dangling", "label", "label!"); err != nil {
		return err
	}
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return err
	}
	removed, freed, err := s.engine.PruneImages(c.r.Context(), given && !dangling, f)
	if err != nil {
		return err
	}
	return c.send(http.StatusOK, image.PruneReport{ImagesDeleted: encodeRemoved(removed), SpaceReclaimed: uint64(freed)})
}
