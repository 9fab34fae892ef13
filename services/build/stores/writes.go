package stores

import (
	"slices"
	"strings"
	"sync"

	own "github.com/orlop/orlop/core/mount"
)

// Writes remembers what overlays that can be written are made of, by their upper folder:
// BuildKit mounts them, and long lists of layers are not to be read back from the kernel as
// they were given. It is safe for concurrent use; a nil one remembers nothing.
type Writes struct {
	mu     sync.Mutex
	upper  map[string]string // by key of the snapshot
	mounts map[string][]own.Mount
}

// Find returns the mounts of an overlay with that upper folder, nil if it isn't known.
func (w *Writes) Find(upper string) []own.Mount {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mounts[upper])
}

func (w *Writes) note(key string, list []own.Mount) {
	if w == nil || len(list) != 1 || list[0].Type != "overlay" {
		return
	}
	for _, o := range list[0].Options {
		if upper, ok := strings.CutPrefix(o, "upperdir="); ok {
			w.mu.Lock()
			if w.upper == nil {
				w.upper, w.mounts = map[string]string{}, map[string][]own.Mount{}
			}
			w.upper[key], w.mounts[upper] = upper, list
			w.mu.Unlock()
		}
	}
}

func (w *Writes) forget(key string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mounts, w.upper[key])
	delete(w.upper, key)
}
