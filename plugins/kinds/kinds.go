// Package kinds lists the roles of the daemon. Names are containerd's where the
// role is containerd's, so that its introspection clients work.
package kinds

import (
	"github.com/orlop/orlop/content"
	"github.com/orlop/orlop/core/sandbox"
	"github.com/orlop/orlop/metadata"
	"github.com/orlop/orlop/network"
	"github.com/orlop/orlop/plugins"
	"github.com/orlop/orlop/services/activate"
	"github.com/orlop/orlop/services/archive"
	"github.com/orlop/orlop/services/build"
	"github.com/orlop/orlop/services/collect"
	"github.com/orlop/orlop/services/engine"
	"github.com/orlop/orlop/services/events"
	"github.com/orlop/orlop/services/grpc"
	"github.com/orlop/orlop/services/grpc/observe"
	networks "github.com/orlop/orlop/services/network"
	"github.com/orlop/orlop/services/pull"
	"github.com/orlop/orlop/services/push"
	"github.com/orlop/orlop/services/streaming"
	"github.com/orlop/orlop/services/transfer"
	"github.com/orlop/orlop/services/unpack"
	"github.com/orlop/orlop/services/volume"
	"github.com/orlop/orlop/shims/manager"
	"github.com/orlop/orlop/snapshotters"
)

// Server is a listening door; it closes with the daemon.
type Server interface{ Address() string }

// TaskMonitor watches tasks until it is closed.
type TaskMonitor interface{ Close() }

// The roles, from the ground up.
var (
	Content           = plugins.NewKind[content.Store]("io.containerd.content.v1", plugins.Describe("keeps blobs by digest"))
	Snapshotter       = plugins.NewKind[snapshotters.Driver]("io.containerd.snapshotter.v1", plugins.Describe("keeps file system trees"), plugins.Prefer("erofs", "overlayfs", "native"))
	Events            = plugins.NewKind[*events.Exchange]("io.containerd.event.v1", plugins.Describe("delivers what happened"))
	Metadata          = plugins.NewKind[*metadata.DB]("io.containerd.metadata.v1", plugins.Describe("names everything, in one database"))
	Collector         = plugins.NewKind[*collect.Scheduler]("io.containerd.gc.v1", plugins.Describe("removes what nothing refers to"))
	Differ            = plugins.NewKind[grpc.Differ]("io.containerd.differ.v1", plugins.Describe("turns layers into files and back"), plugins.Prefer("walking"))
	Puller            = plugins.NewKind[*pull.Puller]("io.orlop.pull.v1", plugins.Describe("brings images from registries"))
	Unpacker          = plugins.NewKind[*unpack.Unpacker]("io.orlop.unpack.v1", plugins.Describe("makes snapshots of layers"))
	Pusher            = plugins.NewKind[*push.Pusher]("io.orlop.push.v1", plugins.Describe("sends images to registries"))
	Archiver          = plugins.NewKind[*archive.Archiver]("io.orlop.archive.v1", plugins.Describe("reads and writes images as archives"))
	Transfer          = plugins.NewKind[*transfer.Service]("io.containerd.transfer.v1", plugins.Describe("moves images between registries, the store and archives"))
	Streaming         = plugins.NewKind[*streaming.Manager]("io.containerd.streaming.v1", plugins.Describe("keeps streams that clients open beside calls"))
	Runtime           = plugins.NewKind[*manager.Manager]("io.containerd.runtime.v2", plugins.Describe("runs containers in shims"))
	SandboxController = plugins.NewKind[sandbox.Controller]("io.containerd.sandbox.controller.v1", plugins.Describe("makes sandboxes real"), plugins.Prefer("shim"))
	Network           = plugins.NewKind[network.Driver]("io.orlop.network.v1", plugins.Describe("connects containers"), plugins.Prefer("bridge"))
	Builder           = plugins.NewKind[*build.Builder]("io.orlop.builder.v1", plugins.Describe("builds images"))
	Networks          = plugins.NewKind[*networks.Service]("io.orlop.networks.v1", plugins.Describe("keeps networks and connects containers to them"))
	Volumes           = plugins.NewKind[*volume.Service]("io.orlop.volume.v1", plugins.Describe("keeps folders that outlive containers"))
	Engine            = plugins.NewKind[*engine.Engine]("io.orlop.engine.v1", plugins.Describe("makes and runs containers for the Docker API"))
	MountManager      = plugins.NewKind[*activate.Manager]("io.containerd.mount-manager.v1", plugins.Describe("makes mounts that need more than mount(2)"))
	Service           = plugins.NewKind[grpc.Service]("io.containerd.grpc.v1", plugins.Describe("serves one API"))
	Own               = plugins.NewKind[grpc.Service]("io.orlop.grpc.v1", plugins.Describe("serves an API of Orlop's own"))
	Metrics           = plugins.NewKind[*observe.Metrics]("io.containerd.metrics.v1", plugins.Describe("counts what happens"))
	Monitor           = plugins.NewKind[TaskMonitor]("io.containerd.monitor.task.v1", plugins.Describe("measures tasks"))
	Tracing           = plugins.NewKind[*observe.Tracing]("io.containerd.tracing.processor.v1", plugins.Describe("sends traces"))
	Door              = plugins.NewKind[Server]("io.containerd.server.v1", plugins.Describe("listens for clients"))
)
