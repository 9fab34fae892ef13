// Package builtin is the list of all providers that the daemon is linked with, a
// file each: reading it is reading the whole system.
package builtin

import (
	"sync/atomic"

	"github.com/orlop/orlop/plugins"
)

// Daemon is what providers may ask of the program around them.
type Daemon struct {
	// System is set once it has started.
	System atomic.Pointer[plugins.System]
}

// Register adds every provider.
func Register(r *plugins.Registry, d *Daemon) {
	content(r)
	events(r)
	erofs(r)
	overlayfs(r)
	native(r)
	bolt(r)
	scheduler(r)
	walking(r)
	puller(r)
	tasks(r)
	services(r)
	introspection(r, d)
	doorGRPC(r)
	doorTTRPC(r)
}
