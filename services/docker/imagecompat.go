package docker

import (
	"time"

	"github.com/moby/moby/api/types/image"
)

// summariesFor is a list of images in the form of the client's version.
func summariesFor(all []image.Summary, v version) any {
	out := make([]any, len(all))
	for i, s := range all {
		if v < 43 && len(s.RepoTags)+len(s.RepoDigests) == 0 {
			s.RepoTags, s.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		if v < 48 {
			s.Descriptor = nil
		}
		if v < 51 {
			s.Containers = -1
		}
		out[i] = s
		if v < noVirtualSize {
			out[i] = withFields(s, object{"VirtualSize": s.Size})
		}
	}
	return out
}

// oldConfig are fields of an image's config that were there when they were empty.
var oldConfig = object{"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": ""}

// olderConfig are those of a container's config, that an image has no use for.
var olderConfig = object{"Hostname": "", "Domainname": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
	"OpenStdin": false, "StdinOnce": false, "Image": ""}

// imageFor is an image's description in the form of the client's version.
func imageFor(r image.InspectResponse, v version) any {
	if v < 48 {
		r.Descriptor = nil
	}
	if v < noVirtualSize && r.Created == "" {
		r.Created = time.Time{}.Format(time.RFC3339Nano)
	}
	if v >= plainNetwork {
		return r
	}
	out := withFields(r, object{"Parent": "", "Comment": "", "DockerVersion": "", "Author": "", "Config": oldConfig})
	if v < 50 {
		out = withFields(out, object{"Config": olderConfig})
	}
	if v < noContainerConfig {
		// docker-compose 1 looks up the image's volumes there.
		config := any(object{})
		if r.Config != nil {
			config = r.Config
		}
		out = withFields(out, object{"Container": "", "ContainerConfig": config})
	}
	if v < noVirtualSize {
		out = withFields(out, object{"VirtualSize": r.Size})
	}
	return out
}
