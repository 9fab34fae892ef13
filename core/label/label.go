// Package label holds the rules of labels: key=value pairs on every object.
package label

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// maxSize bounds a label's key and value together, in bytes; it is containerd's
// bound, and clients rely on it.
const maxSize = 4096

// Validate checks every label.
func Validate(labels map[string]string) error {
	for k, v := range labels {
		if k == "" {
			return fmt.Errorf("label with empty key: %w", errdefs.ErrInvalidArgument)
		}
		if len(k)+len(v) > maxSize {
			return fmt.Errorf("label %.40q takes %d bytes, key and value together may take %d: %w", k, len(k)+len(v), maxSize, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Merge applies an update to labels: with no fieldpaths, or with "labels", all
// are replaced; a path "labels.<key>" sets that one, or removes it where the
// update has no value for it. It reports whether paths named anything else.
func Merge(old, update map[string]string, fieldpaths []string) (merged map[string]string, other []string) {
	if len(fieldpaths) == 0 {
		return maps.Clone(update), nil
	}
	merged = maps.Clone(old)
	if merged == nil {
		merged = map[string]string{}
	}
	for _, path := range fieldpaths {
		key, single := strings.CutPrefix(path, "labels.")
		switch {
		case single:
			if v, ok := update[key]; ok && v != "" {
				merged[key] = v
			} else {
				delete(merged, key)
			}
		case path == "labels":
			merged = maps.Clone(update)
		default:
			other = append(other, path)
		}
	}
	return merged, other
}

// Labels that steer the collector and the stores. The names are containerd's,
// so that its clients work unchanged.
const (
	GCRoot            = "containerd.io/gc.root"
	GCContent         = "containerd.io/gc.ref.content"
	GCSnapshot        = "containerd.io/gc.ref.snapshot."
	GCImage           = "containerd.io/gc.ref.image"
	GCExpire          = "containerd.io/gc.expire"
	GCFlat            = "containerd.io/gc.flat"
	GCBackContent     = "containerd.io/gc.bref.content"
	GCBackContainer   = "containerd.io/gc.bref.container"
	GCBackImage       = "containerd.io/gc.bref.image"
	GCBackSnapshot    = "containerd.io/gc.bref.snapshot."
	Uncompressed      = "containerd.io/uncompressed"
	DistributionFrom  = "containerd.io/distribution.source."
	Shareable         = "containerd.io/namespace.shareable"
	SnapshotRef       = "containerd.io/snapshot.ref"
	SnapshotInherited = "containerd.io/snapshot/"
	// SnapshotMaxSize bounds what an active snapshot takes by itself, in bytes. Where that
	// can't be done no snapshot is made.
	SnapshotMaxSize = "containerd.io/snapshot/max-size"
	// SnapshotVolatile, set to "true" on an active snapshot, mounts it without syncs:
	// for containers whose writes nobody wants after a crash. Without it the kernel
	// syncs the whole file system below when the container ends.
	SnapshotVolatile = "orlop.dev/snapshot/volatile"
)

// AddSource adds a repository to the value of a DistributionFrom label, a list
// joined by commas; a new one stands first and the oldest make room.
func AddSource(list, repository string) string {
	all := strings.Split(list, ",")
	if slices.Contains(all, repository) {
		return list
	}
	out := repository
	for _, old := range all {
		if old == "" {
			continue
		}
		if len(out)+1+len(old) > maxSize/2 {
			break
		}
		out += "," + old
	}
	return out
}
