package config

import "strings"

// Names of containerd's plugins that migration touches.
const (
	idGRPC       = "io.containerd.server.v1.grpc"
	idGRPCTCP    = "io.containerd.server.v1.grpc-tcp"
	idTTRPC      = "io.containerd.server.v1.ttrpc"
	idDebug      = "io.containerd.server.v1.debug"
	idMetrics    = "io.containerd.server.v1.metrics"
	idHistogram  = "io.containerd.metrics.v1.grpc-prometheus"
	idCRI        = "io.containerd.grpc.v1.cri"
	idCRIImages  = "io.containerd.cri.v1.images"
	idCRIRuntime = "io.containerd.cri.v1.runtime"
)

// renamed maps plugins to the names they got in version 3.
var renamed = map[string]string{
	"io.containerd.monitor.v1.cgroups":  "io.containerd.monitor.task.v1.cgroups",
	"io.containerd.internal.v1.restart": "io.containerd.monitor.container.v1.restart",
}

// migrate brings a file's tree from an older version to [Version], in place.
// Every value keeps its position, and is marked foreign: Orlop writes only the
// newest version, so the file is some other program's.
func migrate(root *Node, version int) Problems {
	var notes Problems
	root.markForeign()
	if root.Get("plugins") != nil && root.Get("plugins").Table == nil {
		return notes // the decoder reports it
	}
	if version < 3 {
		notes = append(notes, renamePlugins(root)...)
		splitCRI(root)
	}
	delete(root.Table, "version")
	return notes
}

func (n *Node) markForeign() {
	n.foreign = true
	for _, sub := range n.Table {
		sub.markForeign()
	}
	for _, sub := range n.List {
		sub.markForeign()
	}
}

func renamePlugins(root *Node) Problems {
	var notes Problems
	for _, list := range []string{"disabled_plugins", "required_plugins"} {
		if n := root.Get(list); n != nil {
			for _, e := range n.List {
				if to, ok := renamed[str(e)]; ok {
					e.Value = to
				}
			}
		}
	}
	plugins := root.Get("plugins")
	for old, name := range renamed {
		n := plugins.Get(old)
		if n == nil {
			continue
		}
		delete(plugins.Table, old)
		if plugins.Table[name] == nil {
			plugins.Table[name] = n
		} else {
			notes.Add(n.Pos, "%s is ignored: %s is set too", old, name)
		}
	}
	return notes
}

func str(n *Node) string {
	if n == nil {
		return ""
	}
	s, _ := n.Value.(string)
	return s
}

// moves are the CRI keys that version 3 moved to a plugin of their own; all that
// is not here and not in criStays belongs to the runtime.
var (
	criImages = []string{"registry", "image_decryption", "max_concurrent_downloads",
		"image_pull_progress_timeout", "image_pull_with_sync_fs", "stats_collect_period"}
	criStays = []string{"disable_tcp_service", "stream_server_address", "stream_server_port",
		"stream_idle_timeout", "enable_tls_streaming", "x509_key_pair_streaming"}
	criContainerdImages = []string{"snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"}
)

// splitCRI moves the one CRI table of version 2 to the three of version 3.
func splitCRI(root *Node) {
	plugins := root.Get("plugins")
	cri := plugins.Get(idCRI)
	if cri == nil || cri.Table == nil {
		return
	}
	images, runtime := plugins.table(idCRIImages, cri.Pos), plugins.table(idCRIRuntime, cri.Pos)
	move(cri, images, criImages)
	if sub := cri.Get("containerd"); sub != nil && sub.Table != nil {
		move(sub, images, criContainerdImages)
	}
	if sandbox := cri.Table["sandbox_image"]; sandbox != nil {
		delete(cri.Table, "sandbox_image")
		pinned := images.table("pinned_images", sandbox.Pos)
		pinned.Table["sandbox"] = sandbox
	}
	stays := map[string]bool{}
	for _, k := range criStays {
		stays[k] = true
	}
	for key, v := range cri.Table {
		if !stays[key] {
			delete(cri.Table, key)
			runtime.Table[key] = v
		}
	}
	dropEmpty(plugins, idCRI, idCRIImages, idCRIRuntime)
}

// move takes the keys from one table to another that doesn't have them.
func move(from, to *Node, keys []string) {
	for _, key := range keys {
		n := from.Table[key]
		if n == nil {
			continue
		}
		delete(from.Table, key)
		if to.Table[key] == nil {
			to.Table[key] = n
		}
	}
}

func dropEmpty(n *Node, keys ...string) {
	for _, key := range keys {
		if sub := n.Table[key]; sub != nil && sub.Table != nil && len(sub.Table) == 0 {
			delete(n.Table, key)
		}
	}
}

// moveServers moves the server tables of versions 2 and 3 under plugins. Files
// of version 4 may still have them, as with containerd.
func moveServers(root *Node) {
	if n := root.Get("plugins"); n != nil && n.Table == nil {
		return // the decoder reports it
	}
	grpc, ttrpc, debug, metrics := root.Get("grpc"), root.Get("ttrpc"), root.Get("debug"), root.Get("metrics")
	plugins := root.table("plugins", root.Pos)
	address := str(grpc.Get("address"))
	dropUnset(grpc, metrics)
	if grpc.Get("tcp_address") != nil {
		to := plugins.table(idGRPCTCP, grpc.Pos)
		for _, key := range grpc.Keys() {
			if rest, ok := strings.CutPrefix(key, "tcp_"); ok {
				if to.Table[rest] == nil {
					to.Table[rest] = grpc.Table[key]
				}
				delete(grpc.Table, key)
			}
		}
		for _, key := range []string{"max_recv_message_size", "max_send_message_size"} {
			if n := grpc.Get(key); n != nil && to.Table[key] == nil {
				to.Table[key] = n
			}
		}
	}
	moveTable(grpc, plugins, idGRPC)
	moveTable(ttrpc, plugins, idTTRPC)
	if to := plugins.Get(idTTRPC); address != "" && (to == nil || str(to.Get("address")) == "") {
		to = plugins.table(idTTRPC, grpc.Pos)
		to.Table["address"] = &Node{Pos: grpc.Get("address").posOr(grpc.Pos), Value: address + ".ttrpc", foreign: true}
	}
	if str(debug.Get("address")) != "" {
		move(debug, plugins.table(idDebug, debug.Pos), []string{"address", "uid", "gid"})
	}
	if metrics.Get("grpc_histogram") != nil {
		move(metrics, plugins.table(idHistogram, metrics.Pos), []string{"grpc_histogram"})
	}
	moveTable(metrics, plugins, idMetrics)
	for _, key := range []string{"grpc", "ttrpc", "metrics"} {
		if n := root.Table[key]; n != nil && n.Table != nil {
			delete(root.Table, key)
		}
	}
	dropEmpty(root, "plugins", "debug")
}

// dropUnset removes what old files say of parts that they don't turn on: such a
// file isn't about them.
func dropUnset(grpc, metrics *Node) {
	if grpc != nil && str(grpc.Get("tcp_address")) == "" {
		for _, key := range grpc.Keys() {
			if strings.HasPrefix(key, "tcp_") {
				delete(grpc.Table, key)
			}
		}
	}
	if h := metrics.Get("grpc_histogram"); h != nil && h.Value == false {
		delete(metrics.Table, "grpc_histogram")
	}
}

func (n *Node) posOr(pos Pos) Pos {
	if n == nil {
		return pos
	}
	return n.Pos
}

// moveTable moves all of a table's keys to the plugin id, except zero addresses
// and ids, which mean "not set" in old files.
func moveTable(from, plugins *Node, id string) {
	if from == nil || from.Table == nil {
		return
	}
	to := plugins.table(id, from.Pos)
	for _, key := range from.Keys() {
		n := from.Table[key]
		if n.Value == "" || n.Value == int64(0) {
			delete(from.Table, key)
			continue
		}
		move(from, to, []string{key})
	}
	dropEmpty(plugins, id)
}

// foreignPlugins are containerd's plugins, by the part after "io.containerd.",
// that a file of the newest version may configure though Orlop has no such
// part. Their tables warn; every other unknown name is a mistake.
var foreignPlugins = map[string]bool{
	"cri.v1.images": true, "cri.v1.runtime": true, "grpc.v1.cri": true, "differ.v1.erofs": true,
	"gc.v1.scheduler": true, "image-verifier.v1.bindir": true, "internal.v1.opt": true,
	"internal.v1.tracing": true, "metadata.v1.bolt": true, "metrics.v1.grpc-prometheus": true,
	"monitor.container.v1.restart": true, "monitor.task.v1.cgroups": true, "nri.v1.nri": true,
	"runtime.v2.task": true, "service.v1.diff-service": true, "service.v1.tasks-service": true,
	"shim.v1.manager": true, "snapshotter.v1.blockfile": true, "snapshotter.v1.btrfs": true,
	"snapshotter.v1.devmapper": true, "snapshotter.v1.erofs": true, "snapshotter.v1.native": true,
	"snapshotter.v1.overlayfs": true, "snapshotter.v1.zfs": true, "snapshotter.v1.aufs": true,
	"tracing.processor.v1.otlp": true, "transfer.v1.local": true, "http.v1.pprof": true,
	"server.v1.grpc": true, "server.v1.grpc-tcp": true, "server.v1.ttrpc": true,
	"server.v1.debug": true, "server.v1.metrics": true, "mount-handler.v1.erofs": true,
	"mount-manager.v1.bolt": true, "sandbox.controller.v1.shim": true, "podsandbox.v1.podsandbox": true,
	"sandbox.controller.v1.podsandbox": true, "content.v1.content": true, "snapshotter.v1.windows": true,
	"event.v1.exchange": true, "lease.v1.manager": true, "streaming.v1.manager": true,
}

// Foreign reports whether a plugin that Orlop doesn't have may be named at n
// without being a mistake: it is containerd's, or the file is a migrated one
// and the name is in containerd's namespace.
func Foreign(id string, n *Node) bool {
	rest, ok := strings.CutPrefix(id, "io.containerd.")
	return ok && (foreignPlugins[rest] || n != nil && n.foreign)
}
