// Package archtest checks the architecture of the module: which folders there
// are, who may import whom, which third-party packages each layer may use, and
// what every binary is made of. Its rules are the table of the design.
//
// [Check] is a pure function of a [Tree], so that its own tests can feed it
// trees that break each rule. Nothing is kept; all functions are safe for
// concurrent use.
package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the path of the module that is checked.
const Module = "github.com/orlop/orlop"

// Package is one Go package of the module.
type Package struct {
	// Dir is its folder, relative to the module's, with slashes.
	Dir string
	// Imports are the paths it imports, those of tests not among them.
	Imports []string
	// Inits are the positions of functions named init.
	Inits []string
}

// Tree is what is checked.
type Tree struct {
	Packages []Package
	// Top are the names of the folders at the module's top.
	Top []string
}

// room is a rule about the packages under one folder. The longest matching
// folder counts.
type room struct {
	dir string
	// ours are the folders of the module that may be imported.
	ours []string
	// theirs are the third-party modules, or packages, that may be imported;
	// "*" is any.
	theirs []string
	// std are packages of the standard library that may not be imported.
	std []string
	// drivers tells that each subfolder but those in helpers is a driver, which
	// imports its port and no sibling.
	drivers bool
	helpers []string
}

// Groups of third-party packages.
var (
	oci    = []string{"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec", "github.com/opencontainers/runtime-spec"}
	vocab  = join(oci, "github.com/containerd/errdefs", "github.com/containerd/platforms", "github.com/distribution/reference", "github.com/containerd/typeurl/v2")
	logs   = []string{"github.com/containerd/log"}
	system = []string{"golang.org/x/sys", "github.com/moby/sys"}
	wire   = []string{"github.com/containerd/containerd/api", "google.golang.org/grpc", "google.golang.org/protobuf",
		"github.com/containerd/ttrpc", "github.com/containerd/typeurl/v2", "github.com/containerd/errdefs", "google.golang.org/genproto/googleapis/rpc"}
	dockerAPI = []string{"github.com/moby/moby/api", "github.com/moby/docker-image-spec", "github.com/docker/go-units"}
	pack      = []string{"github.com/klauspost/compress", "github.com/erofs/go-erofs"}
)

func join(list []string, more ...string) []string { return append(slices.Clone(list), more...) }

// ports are the packages whose interfaces drivers implement.
var ports = []string{"content", "snapshotters", "shims", "network"}

// rooms is the table of the house.
var rooms = []room{
	{dir: "api", theirs: wire},
	{dir: "protobuf", ours: join(ports, "api", "core", "internal"), theirs: join(vocab, wire...)},
	{dir: "core", ours: []string{"core", "internal"}, theirs: vocab, std: []string{"os", "net", "os/exec", "net/http", "syscall"}},
	{dir: "content", ours: []string{"core", "internal"}, theirs: slices.Concat(vocab, system, []string{"golang.org/x/sync"}),
		drivers: true, helpers: []string{"contenttest", "ingest"}},
	{dir: "content/proxy", ours: []string{"core", "content", "internal", "protobuf"}, theirs: slices.Concat(vocab, wire)},
	{dir: "content/s3", ours: []string{"core", "content", "internal"}, theirs: join(vocab, "github.com/minio/minio-go/v7")},
	{dir: "snapshotters", ours: []string{"core", "internal"}, theirs: slices.Concat(vocab, system, pack, []string{"golang.org/x/sync"}),
		drivers: true, helpers: []string{"layer", "disk", "snapshottest"}},
	{dir: "snapshotters/proxy", ours: []string{"core", "snapshotters", "internal", "protobuf"}, theirs: slices.Concat(vocab, wire)},
	{dir: "metadata", ours: join(ports, "core", "internal"), theirs: slices.Concat(vocab, system, []string{"go.etcd.io/bbolt", "golang.org/x/sync",
		"google.golang.org/protobuf", "github.com/containerd/containerd/api/events"})}, // event payloads are containerd's messages
	{dir: "runtime", ours: []string{"core", "runtime", "internal"}, theirs: slices.Concat(vocab, system,
		[]string{"github.com/cilium/ebpf", "github.com/vishvananda/netlink"})},
	{dir: "shims", ours: []string{"core", "runtime", "shims", "internal"}, theirs: slices.Concat(vocab, logs, wire, system,
		[]string{"github.com/containerd/cgroups/v3", "golang.org/x/sync"}), helpers: []string{"shimtest"}},
	{dir: "network", ours: []string{"core", "internal"}, theirs: slices.Concat(vocab, system,
		[]string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/google/nftables",
			"github.com/mdlayher/netlink", "github.com/miekg/dns", "golang.org/x/net"}),
		drivers: true, helpers: []string{"networktest", "namespace", "rtnl", "firewall", "ipam", "proxy", "dns"}},
	{dir: "services", ours: join(ports, "core", "metadata", "services", "internal"), theirs: slices.Concat(vocab, logs, system, pack,
		[]string{"github.com/pelletier/go-toml/v2", "github.com/moby/profiles/seccomp", "golang.org/x/sync"})},
	// The edge shows the plugin graph, which is plain data, and reaches tasks by their manager.
	{dir: "services/grpc", ours: join(ports, "core", "services", "protobuf", "api", "internal", "plugins/graph", "shims/manager"),
		theirs: slices.Concat(vocab, logs, wire, system, []string{"go.opentelemetry.io", "github.com/prometheus/client_golang"})},
	// What shims tell of cgroups are messages of containerd's cgroups module.
	{dir: "services/grpc/observe", ours: []string{"core"}, theirs: slices.Concat(vocab, logs, wire, []string{"go.opentelemetry.io",
		"github.com/prometheus/client_golang", "github.com/containerd/cgroups/v3/cgroup1/stats", "github.com/containerd/cgroups/v3/cgroup2/stats"})},
	// Containers' configs are Docker's types, which are plain data, kept as they came; tasks are
	// reached by their manager, in the messages of the task port.
	{dir: "services/engine", ours: join(ports, "core", "services", "internal", "shims/manager"), theirs: slices.Concat(vocab, logs, system, dockerAPI,
		[]string{"github.com/containerd/containerd/api", "google.golang.org/protobuf", "golang.org/x/sync",
			"github.com/containerd/cgroups/v3/cgroup1/stats", "github.com/containerd/cgroups/v3/cgroup2/stats", "tags.cncf.io/container-device-interface"})},
	// A driver of volumes knows its port, and reads sizes as people write them.
	{dir: "services/volume/local", ours: []string{"core", "services/volume", "internal"}, theirs: slices.Concat(vocab, logs, system, []string{"github.com/docker/go-units"})},
	// BuildKit is a library that wants stores in containerd's form; its daemon's code isn't used.
	{dir: "services/build", ours: join(ports, "core", "services", "internal"), theirs: slices.Concat(vocab, logs, system, []string{"github.com/moby/buildkit",
		"github.com/containerd/containerd/v2/core", "github.com/containerd/containerd/v2/pkg", "google.golang.org/grpc", "google.golang.org/protobuf", "golang.org/x/sync", "golang.org/x/net", "github.com/moby/patternmatcher", "github.com/tonistiigi/fsutil",
		"github.com/sirupsen/logrus"})}, // BuildKit's log, which is moved to ours
	// The types of the API are Docker's own module of types, without its daemon or client.
	{dir: "services/docker", ours: []string{"core", "services", "internal"}, theirs: slices.Concat(vocab, logs, dockerAPI)},
	{dir: "services/cri", ours: []string{"core", "services", "internal"}, theirs: join(slices.Concat(vocab, wire), "k8s.io/cri-api")},
	{dir: "services/registry", ours: join(ports, "core", "services", "internal"), theirs: slices.Concat(vocab, logs)},
	{dir: "services/registry/observe", ours: []string{"core", "services/registry"}, theirs: slices.Concat(vocab, logs, []string{"github.com/prometheus/client_golang"})},
	// Passwords are bcrypt's, tokens are JOSE's.
	{dir: "services/registry/access", ours: []string{"core", "services/registry", "internal"}, theirs: slices.Concat(vocab, logs, []string{"golang.org/x/crypto/bcrypt", "github.com/go-jose/go-jose/v4"})},
	{dir: "plugins", ours: []string{"plugins", "internal"}, theirs: []string{"github.com/pelletier/go-toml/v2"}},
	{dir: "plugins/kinds", ours: []string{"*"}, theirs: []string{"*"}},
	{dir: "plugins/builtin", ours: []string{"*"}, theirs: []string{"*"}},
	{dir: "cmd", ours: []string{"*"}, theirs: []string{"*"}},
	{dir: "internal", ours: []string{"internal"}, theirs: slices.Concat(vocab, system, pack, wire)},
	{dir: "internal/unxz", ours: []string{}, theirs: []string{"github.com/ulikunitz/xz"}},
	// Mount lists are core's words; performing them is shared by drivers and the runtime.
	{dir: "internal/mounts", ours: []string{"core/mount", "internal"}, theirs: join(vocab, system...)},
	{dir: "test", ours: []string{"*"}, theirs: []string{"*"}},
}

// otherFolders hold no Go packages that others import.
var otherFolders = []string{"docs"}

// sole are packages that only one folder may import.
var sole = map[string]string{"go.etcd.io/bbolt": "metadata"}

// Check returns what breaks the rules, a line each, sorted.
func Check(t Tree) []string {
	var found []string
	for _, top := range t.Top {
		if !known(top) {
			found = append(found, fmt.Sprintf("%s: is no room of the house", top))
		}
	}
	for _, p := range t.Packages {
		found = append(found, checkPackage(p)...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func known(top string) bool {
	if strings.HasPrefix(top, ".") || slices.Contains(otherFolders, top) {
		return true
	}
	return slices.ContainsFunc(rooms, func(r room) bool { return r.dir == top })
}

func checkPackage(p Package) []string {
	r := roomOf(p.Dir)
	if r == nil {
		return nil // the folder itself is reported
	}
	var found []string
	report := func(format string, args ...any) {
		found = append(found, p.Dir+": "+fmt.Sprintf(format, args...))
	}
	if !strings.HasPrefix(p.Dir, "api/") && !strings.HasPrefix(p.Dir, "test/") {
		for _, at := range p.Inits {
			report("has an init function at %s: nothing registers itself", at)
		}
	}
	for _, path := range p.Imports {
		if why := r.refuses(p.Dir, path); why != "" {
			report("imports %s: %s", path, why)
		}
	}
	return found
}

// roomOf finds the rule for a folder.
func roomOf(dir string) *room {
	var best *room
	for i := range rooms {
		if under(dir, rooms[i].dir) && (best == nil || len(rooms[i].dir) > len(best.dir)) {
			best = &rooms[i]
		}
	}
	return best
}

// under reports whether a path is prefix or below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// refuses says why a package in dir may not import path, "" if it may.
func (r *room) refuses(dir, path string) string {
	if only, ok := sole[path]; ok && !under(dir, only) {
		return "only " + only + " may"
	}
	if ours, ok := strings.CutPrefix(path, Module+"/"); ok {
		return r.refusesOurs(dir, ours)
	}
	if !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
		if slices.Contains(r.std, path) {
			return r.dir + " does no I/O"
		}
		return ""
	}
	for _, allowed := range r.theirs {
		if allowed == "*" || under(path, allowed) {
			return ""
		}
	}
	return "third-party package not on the list of " + r.dir
}

func (r *room) refusesOurs(dir, path string) string {
	if under(path, "plugins") && !slices.Contains(r.ours, path) && !under(dir, "plugins") && !under(dir, "cmd") && !under(dir, "test") {
		return "only programs know plugins"
	}
	if r.drivers && under(path, r.dir) {
		return r.refusesSibling(dir, path)
	}
	if under(path, r.dir) {
		return "" // within its own room
	}
	for _, allowed := range r.ours {
		if allowed == "*" || path == allowed || under(path, allowed) && !slices.Contains(ports, allowed) {
			return ""
		}
		if slices.Contains(ports, allowed) && under(path, allowed) && helper(path) {
			return ""
		}
	}
	top, _, _ := strings.Cut(path, "/")
	return fmt.Sprintf("%s may not import %s", r.dir, describe(top, path))
}

// describe tells a port from its drivers.
func describe(top, path string) string {
	if slices.Contains(ports, top) && path != top {
		return "a driver of " + top
	}
	return top
}

// refusesSibling lets a driver import its port, the port's helpers and what is
// below itself.
func (r *room) refusesSibling(dir, path string) string {
	own, _, _ := strings.Cut(strings.TrimPrefix(dir, r.dir+"/"), "/")
	other, _, _ := strings.Cut(strings.TrimPrefix(path, r.dir+"/"), "/")
	switch {
	case dir == r.dir && path != r.dir && !slices.Contains(r.helpers, other):
		return "a port may not import its drivers"
	case path == r.dir, own == other, slices.Contains(r.helpers, other):
		return ""
	}
	return "a driver may not import its sibling"
}

// helper reports whether a package stands on the side of a port, not of the
// drivers.
func helper(path string) bool {
	for _, r := range rooms {
		if rest, ok := strings.CutPrefix(path, r.dir+"/"); ok && len(r.helpers) > 0 {
			first, _, _ := strings.Cut(rest, "/")
			return slices.Contains(r.helpers, first)
		}
	}
	return false
}
