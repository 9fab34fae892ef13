package engine

import (
	"strconv"

	"github.com/docker/go-units"

	"github.com/orlop/orlop/core/label"
)

// layerSize is the bound of a container's writable layer in bytes, of HostConfig's
// StorageOpt; 0 is none.
func layerSize(h *hostConfig) (int64, error) {
	var size int64
	for key, text := range h.StorageOpt {
		if key != "size" {
			return 0, invalid("unknown option %q for storage: it takes size", key)
		}
		n, err := units.RAMInBytes(text)
		if err != nil || n <= 0 {
			return 0, invalid("invalid storage option size=%q: it is a number of bytes, such as 10G", text)
		}
		size = n
	}
	return size, nil
}

// snapshotLabels steer the snapshotter.
func (c *Container) snapshotLabels() map[string]string {
	h := c.rec.HostConfig
	out := map[string]string{}
	if h.AutoRemove {
		out[label.SnapshotVolatile] = "true"
	}
	if n, _ := layerSize(h); n > 0 { // it was checked when the container was made
		out[label.SnapshotMaxSize] = strconv.FormatInt(n, 10)
	}
	return out
}
