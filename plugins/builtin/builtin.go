// Package builtin is the list of all providers that the daemon is linked with, a
// file each: reading it is reading the whole system.
package builtin

import (
	"github.com/orlop/orlop/plugins"
)

// Register adds every provider.
func Register(r *plugins.Registry, d *Daemon) {
	content(r)
	contentS3(r)
	events(r)
	erofs(r)
	overlayfs(r)
	native(r)
	btrfs(r)
	proxies(r)
	bolt(r)
	scheduler(r)
	walking(r)
	unpacker(r)
	puller(r)
	transfers(r)
	networks(r, d)
	networking(r)
	tasks(r, d)
	services(r)
	volumes(r)
	containerEngine(r, d)
	builder(r)
	networkAPI(r)
	introspection(r, d)
	activation(r)
	admin(r, d)
	observing(r)
	doorGRPC(r, d)
	doorTTRPC(r, d)
	doorDocker(r, d)
	doorRegistry(r)
	doorBuildKit(r)
	settings(r)
}
